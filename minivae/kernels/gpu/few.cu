// The weight adjoint of a convolution whose windows have few numbers, as those of an image of one channel have: a tile of conv.cu would be
// padding for the most part.                 gw[tap, o] = sum over pixels of x[pixel's window, tap] y[pixel, o]
//
//            o   j0       j0 + 32
//              +---+---+---+---+              A block sums TAPS taps for 32 channels over `span` pixels, 256 a round.  A thread first puts
//     t0       |tx |   |   |   |              the window of a pixel of its own into shared memory; then thread (ty, tx) adds, for the
//        TAPS  | 4 |   |   |   |              pixels ty, ty + 32, ... of the round, all TAPS numbers times four channels, read at once
//     t0 + 16  |   |   |   |   |              by nobody else, into 64 registers.
//              +---+---+---+---+              At the end the block adds its 32 sums, and join.cu those of the parts, in order.
//
// In float32, whatever the precision of other products: there is too little of it for tensor cores to matter.
#include "geometry.cu"

#define TAPS 16
#define OUTPUTS 32
#define PIXELS 256           // of a round, one for each thread
#define GROUPS 32            // ty
#define PITCH (TAPS + 4)     // floats: with it, 8 threads that store four numbers each of neighbouring windows meet 32 banks
#define SUMS (TAPS * OUTPUTS / 256)  // of the block, that a thread finishes

struct __align__(16) Numbers {
    float window[2][PIXELS * PITCH];  // one of a round, one of the next; then the block's sums
    Tap tap[TAPS];
};

// What a relu's mask is of: no kernel asks for a mask that is not there
enum Masked { NOTHING, OF_X, OF_Y };

// What a thread reads of the window of its pixel in a round
template <Masked MASKED> struct Window {
    float number[TAPS], seen[TAPS];  // and the relu's values there

    __device__ __forceinline__ void fetch(const Geometry& s, const float* x, const Mask& mask, const Tap* taps, int pixel, int end) {
        Place place = window_of(s, x, pixel);
        const float* values = beyond(place.number, mask.to_y);
        if (pixel >= end) place.h = NOWHERE;
#pragma unroll
        for (int q = 0; q < TAPS; ++q) {
            Tap tap = taps[q];
            bool inside = in_image(s, place, tap);
            const float* from = beyond(place.number, tap.bytes, 1);
            number[q] = inside ? __ldg(from) : 0;
            if (MASKED == OF_X) seen[q] = inside ? __ldg(beyond(values, tap.bytes, 1)) : 0;
        }
    }

    __device__ __forceinline__ void store(float* window) {
#pragma unroll
        for (int q = 0; q < TAPS; ++q)
            if (MASKED == OF_X) number[q] = seen[q] > 0 ? number[q] : 0;
#pragma unroll
        for (int q = 0; q < TAPS; q += 4)
            *(float4*)(window + q) = float4{number[q], number[q + 1], number[q + 2], number[q + 3]};
    }
};

// Four channels of y at a pixel, from o on.  QUADS: o and pixel are there, as what is summed for others is never used or times zeros.
template <bool QUADS, Masked MASKED>
__device__ __forceinline__ float4 channels(const Geometry& s, const float* y, const Mask& mask, int pixel, int o) {
    const float* from = beyond(y + o, pixel, 4 * s.O);
    if (QUADS) {
        float4 four = __ldg((const float4*)from);
        if (MASKED != OF_Y) return four;
        float4 seen = __ldg((const float4*)beyond(from, mask.to_y));
        return float4{seen.x > 0 ? four.x : 0, seen.y > 0 ? four.y : 0, seen.z > 0 ? four.z : 0, seen.w > 0 ? four.w : 0};
    }
    float4 four = {0, 0, 0, 0};
    Mask own = {mask.to_y, MASKED == OF_Y};
    if (o < s.O) four.x = passed(from, own);
    if (o + 1 < s.O) four.y = passed(from + 1, own);
    if (o + 2 < s.O) four.z = passed(from + 2, own);
    if (o + 3 < s.O) four.w = passed(from + 3, own);
    return four;
}

// sum <- the block's sums over k0 <= pixel < k1: of number e = threadIdx.x + 256 p of its TAPS x OUTPUTS
template <bool QUADS, Masked MASKED>
__device__ __forceinline__ void add_up(float* sum, const Geometry& s, const float* x, const float* y, const Mask& mask, int j0, int k0, int k1,
                                       Numbers& all) {
    int tx = threadIdx.x % (OUTPUTS / 4), ty = threadIdx.x / (OUTPUTS / 4), o = j0 + 4 * tx;
    if (QUADS && o >= s.O) o = s.O - 4;
    Window<MASKED> window;
    float c[TAPS][4];
#pragma unroll
    for (int q = 0; q < TAPS; ++q)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[q][e] = 0;
    window.fetch(s, x, mask, all.tap, k0 + (int)threadIdx.x, k1);
    window.store(all.window[0] + threadIdx.x * PITCH);
    __syncthreads();
    int pair = 0;
    for (int k = k0; k < k1; k += PIXELS, pair = 1 - pair) {
        bool more = k + PIXELS < k1;
        if (more) window.fetch(s, x, mask, all.tap, k + PIXELS + (int)threadIdx.x, k1);
#pragma unroll
        for (int m = 0; m < PIXELS / GROUPS; ++m) {
            int pixel = k + ty + m * GROUPS;
            float4 of_y4 = channels<QUADS, MASKED>(s, y, mask, pixel < k1 ? pixel : k1 - 1, o);
            const float* from = all.window[pair] + (ty + m * GROUPS) * PITCH;
#pragma unroll
            for (int q = 0; q < TAPS; q += 4) {
                float4 four = *(const float4*)(from + q);
                float of_x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    c[q + e][0] += of_x[e] * of_y4.x;
                    c[q + e][1] += of_x[e] * of_y4.y;
                    c[q + e][2] += of_x[e] * of_y4.z;
                    c[q + e][3] += of_x[e] * of_y4.w;
                }
            }
        }
        if (more) window.store(all.window[1 - pair] + threadIdx.x * PITCH);
        __syncthreads();
    }
    float* sums = all.window[0];  // (GROUPS, 8 taps, OUTPUTS), as many taps as there is room for
#pragma unroll
    for (int p = 0; p < SUMS; ++p) {
#pragma unroll
        for (int q = 0; q < 8; ++q)
            *(float4*)(sums + (ty * 8 + q) * OUTPUTS + 4 * tx) = float4{c[p * 8 + q][0], c[p * 8 + q][1], c[p * 8 + q][2], c[p * 8 + q][3]};
        __syncthreads();
        sum[p] = 0;
        for (int group = 0; group < GROUPS; ++group) sum[p] += sums[group * 256 + threadIdx.x];
        __syncthreads();
    }
}

template <bool QUADS>
__device__ __forceinline__ void add_up(float* sum, const Geometry& s, const float* x, const float* y, const Mask& mask, int swapped, int j0,
                                       int k0, int k1, Numbers& all) {
    if (!mask.there)
        add_up<QUADS, NOTHING>(sum, s, x, y, mask, j0, k0, k1, all);
    else if (swapped)
        add_up<QUADS, OF_X>(sum, s, x, y, mask, j0, k0, k1, all);
    else
        add_up<QUADS, OF_Y>(sum, s, x, y, mask, j0, k0, k1, all);
}

extern "C" __global__ void __launch_bounds__(256) few_weights(
    const float* x, const float* g, const float* value, float* gw, float* gb, float* partial, unsigned int* arrived, Geometry geometry,
    int span, int span_b, int blocks, int swapped) {
    __shared__ Numbers all;
    int taps = geometry.KH * geometry.KW * geometry.C, K = geometry.N * geometry.OH * geometry.OW, block = blockIdx.x;
    int count = K > span ? (K + span - 1) / span : 1, tile = block / count, part = block % count, down = (taps + TAPS - 1) / TAPS;
    Mask mask = mask_of(swapped ? x : g, value);
    if (block >= blocks) {
        partial += count > 1 ? (long long)blocks * TAPS * OUTPUTS : 0;
        bias_of(geometry, swapped, x, g, mask, gb, span_b, partial, arrived, block - blocks, all.window[0]);
        return;
    }
    int t0 = tile % down * TAPS, j0 = tile / down * OUTPUTS, k0 = part * span, k1 = K - k0 < span ? K : k0 + span;
    if (threadIdx.x < TAPS) {
        int tap = t0 + (int)threadIdx.x;
        all.tap[threadIdx.x] = tap < taps ? tap_of(geometry, tap) : Tap{0, NOWHERE, 0};
    }
    __syncthreads();
    float sum[SUMS];
    bool quads = geometry.O % 4 == 0 && aligned(g, g, mask);
    if (quads)
        add_up<true>(sum, geometry, x, g, mask, swapped, j0, k0, k1, all);
    else
        add_up<false>(sum, geometry, x, g, mask, swapped, j0, k0, k1, all);
    Parts parts = {partial + (long long)tile * count * TAPS * OUTPUTS, arrived + tile * count, count};
    if (!joined<SUMS>(sum, parts, part, all.window[0])) return;
#pragma unroll
    for (int p = 0; p < SUMS; ++p) {
        int e = (int)threadIdx.x + 256 * p, tap = t0 + e / OUTPUTS, o = j0 + e % OUTPUTS;
        if (tap < taps && o < geometry.O) gw[(long long)tap * geometry.O + o] = sum[p];
    }
}
