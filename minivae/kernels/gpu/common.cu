// What every kernel here shares: how threads share out numbers, how they add them up, and the nonlinearities.
//
//     n numbers          0 1 2 3 ...                     thread i of the whole grid takes i, i + T, i + 2T, ...
//     a row              one team of threads: a warp for short rows, a block of 256 for long ones
//
// A sum has one order, which follows from the shapes alone: no atomics, so the same numbers give the same bits, run after run.

#define EACH(i, n) \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
#define EVERYONE 0xffffffffu
#define WARPS 8  // of a block, at most: blocks have 256 threads

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// A butterfly: after five exchanges every lane holds the same sum, bit for bit, since a + b = b + a.
__device__ __forceinline__ float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(EVERYONE, value, distance);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(EVERYONE, value, distance));
    return value;
}

// The sum over threadIdx.x, a warp or a whole block wide; every thread of the team gets it.  All threads of the block must call it, and
// each call in a kernel needs shared memory of its own: then one barrier is enough.
__device__ __forceinline__ float team_sum(float value, float* of_warp) {
    value = warp_sum(value);
    if (blockDim.x == 32) return value;
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < WARPS; ++warp) value += of_warp[warp];
    return value;
}

__device__ __forceinline__ float team_max(float value, float* of_warp) {
    value = warp_max(value);
    if (blockDim.x == 32) return value;
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    for (int warp = 0; warp < WARPS; ++warp) value = fmaxf(value, of_warp[warp]);
    return value;
}

// A row's team is threadIdx.x; a block of short rows holds blockDim.y of them.
__device__ __forceinline__ long long row_of_team() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

__device__ __forceinline__ float sigmoid_of(float x) {
    float e = expf(-fabsf(x));  // never of a positive number: e^x overflows past 88
    return (x >= 0 ? 1.0f : e) / (1.0f + e);
}

__device__ __forceinline__ float softplus_of(float x) { return (x > 0 ? x : 0 * x) + log1pf(expf(-fabsf(x))); }

// Activations that a layer may end in, and their gradients read off the value y.  The codes are those of launcher.py.
#define RELU 1
#define TANH 2
#define SIGMOID 3

// kept out of line: a tile ends in 64 of these a thread, and 64 copies of tanh would take seconds to compile
__device__ __noinline__ float curved(float h, int activation) { return activation == TANH ? tanhf(h) : sigmoid_of(h); }

__device__ __forceinline__ float activated(float h, int activation) {
    if (activation == RELU) return h > 0 ? h : 0 * h;  // 0 * h and not 0: NaN stays NaN
    return activation ? curved(h, activation) : h;
}

__device__ __forceinline__ float activation_slope(float g, float y, int activation) {
    if (activation == RELU) return y > 0 ? g : 0;
    if (activation == TANH) return g * (1 - y * y);
    if (activation == SIGMOID) return g * y * (1 - y);
    return g;
}

// The number that lies so many bytes behind another.
__device__ __forceinline__ const float* beyond(const float* number, long long bytes) { return (const float*)((const char*)number + bytes); }

#ifndef CUDA_HOST  // the tests' host has its own
// The same, `times` as many: one instruction, where the compiler makes a product of 64 bits out of its loop over one of 32.
__device__ __forceinline__ const float* beyond(const float* number, int times, int bytes) {
    const float* place;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(place) : "r"(times), "r"(bytes), "l"(number));
    return place;
}
#endif

// A gradient g that goes back through a relu: it passes where y is above 0.  Each number of y lies so many bytes behind that of g.
struct Mask {
    long long to_y;
    bool there;
};

__device__ __forceinline__ Mask mask_of(const float* g, const float* y) { return {y ? (y - g) * 4 : 0, y != nullptr}; }

__device__ __forceinline__ float passed(const float* g, const Mask& mask) {
    float number = __ldg(g);
    return !mask.there || __ldg(beyond(g, mask.to_y)) > 0 ? number : 0;
}

// Where y was not read, zeros stand for it: a number passes if they are above this.
__device__ __forceinline__ float mask_floor(const Mask& mask) { return mask.there ? 0.0f : -1.0f; }

// Whether four numbers can be read at once
__device__ __forceinline__ bool aligned(const float* a, const float* b, const Mask& mask = {0, false}) {
    return (((unsigned long long)a | (unsigned long long)b | (unsigned long long)mask.to_y) & 15) == 0;
}
