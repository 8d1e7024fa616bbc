// Sums that threads of a block share, and blocks of a launch: a sum that several blocks share is finished in the launch that began it.
//
//     blocks   0 1 2 3 4 5 6 7   8 9 10 ...        eight leave what they have in memory; the last of them to come adds up the eight,
//              '------ 0 ------' '--- 8 ---        in their order, and goes on as one of the next eight
//              '---------- 0 --------------
//
// Chance decides who adds, never in which order: the same numbers give the same bits.  `arrived` counts who has come; it is zero
// before a launch, and zero again after it.
#define FEW 8
#define BLOCKS 128  // of a product that is cut into parts, at most: dense.py

// The sum over the rows of a block whose threads lie in rows of `width`, a power of two, for the first row; others get what they added
// up themselves, so that nobody reads a neighbour's number after the last barrier.  All threads must call it; `all` may serve again.
__device__ __forceinline__ float column_sum(float value, float* all, int width) {
    int own = threadIdx.y * blockDim.x + threadIdx.x;
    all[own] = value;
    __syncthreads();
    for (int half = blockDim.x * blockDim.y / 2; half >= width; half /= 2) {
        if (own < half) all[own] += all[own + half];
        __syncthreads();
    }
    return all[own];
}

// Whether this block is the last of `count` to come here.  What the others wrote before can be read then, past the first cache: __ldcg.
// `last`: a number in shared memory.
__device__ __forceinline__ bool last_of(unsigned int* arrived, int count, float* last) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        *last = atomicAdd(arrived, 1u) + 1 == (unsigned int)count;
        if (*last) *arrived = 0;
    }
    __syncthreads();
    __threadfence();
    return *last;
}

// SIZE numbers of each of 256 threads, of one of `count` blocks.   partial: (count, SIZE, 256), arrived: (count,)
struct Parts {
    float* partial;
    unsigned int* arrived;
    int count;
};

// own <- the sum over all parts, in one block of them; true there.  `last`: as above.
template <int SIZE> __device__ __forceinline__ bool joined(float* own, const Parts& parts, int part, float* last) {
    for (int reach = 1, level = 0; reach < parts.count; reach *= FEW, ++level) {
        int first = part / (reach * FEW) * (reach * FEW), members = (parts.count - first + reach - 1) / reach;
        if (members == 1) continue;
        members = members < FEW ? members : FEW;
        float* place = parts.partial + threadIdx.x;
#pragma unroll
        for (int q = 0; q < SIZE; ++q) place[((long long)(part / reach * reach) * SIZE + q) * 256] = own[q];
        // a counter of its own for each level: a group of two at a higher one has more than as many parts as levels below it
        if (!last_of(parts.arrived + first + level, members, last)) return false;
#pragma unroll
        for (int q = 0; q < SIZE; ++q) own[q] = 0;
        for (int member = 0; member < members; ++member)
#pragma unroll
            for (int q = 0; q < SIZE; ++q) own[q] += __ldcg(place + ((long long)(first + member * reach) * SIZE + q) * 256);
    }
    return true;
}
