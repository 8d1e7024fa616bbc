// The sizes of a convolution, and where its windows and the numbers in them lie: for conv.cu, fold.cu and few.cu.
#include "common.cu"
#include "bias.cu"

// n / d for 0 <= n < 2^31 by a product: floor((n + 1) m / 2^(32 + shift)), m = floor(2^(32 + shift) / d), shift = floor(log2 d)
// (A. Robison, "N-bit unsigned division via N-bit multiply-add", 2005): GPUs have no instruction that divides integers.
struct Divisor {
    unsigned int m;
    int shift;
};

__device__ __forceinline__ int quotient(int n, Divisor d) {
    return (int)((unsigned int)((unsigned long long)(unsigned int)(n + 1) * d.m >> 32) >> d.shift);
}

// by_narrow, by_wide: the columns of the kernel that a phase meets, KW / sw rounded down (at least 1), and one more
// strip, own, halo: see fold.cu
struct Geometry {
    int N, H, W, C, OH, OW, O, KH, KW, sh, sw, top, left, strip, own, halo;
    Divisor by_C, by_KW, by_OH, by_OW, by_O, by_narrow, by_wide, by_strip;
};

// Where a window or a number in it begins: address, row, column
struct Place {
    const float* number;
    int h, w;
};

struct Tap {
    int bytes;  // from the window's beginning
    int h, w;
};

#define NOWHERE -(1 << 30)  // a row far above every image

// The window of an output pixel, and a tap of it
__device__ __forceinline__ Place window_of(const Geometry& s, const float* x, int pixel) {
    int row = quotient(pixel, s.by_OW), n = quotient(row, s.by_OH);
    int h = (row - n * s.OH) * s.sh - s.top, w = (pixel - row * s.OW) * s.sw - s.left;
    return {beyond(x, (n * s.H + h) * s.W + w, 4 * s.C), h, w};
}

__device__ __forceinline__ Tap tap_of(const Geometry& s, int tap) {
    int kernel = quotient(tap, s.by_C), h = quotient(kernel, s.by_KW), w = kernel - h * s.KW;
    return {4 * ((h * s.W + w) * s.C + tap - kernel * s.C), h, w};
}

__device__ __forceinline__ bool in_image(const Geometry& s, const Place& place, const Tap& tap) {
    return (unsigned int)(place.h + tap.h) < (unsigned int)s.H && (unsigned int)(place.w + tap.w) < (unsigned int)s.W;
}

// The gradient of a convolution's bias, or of a transposed one's (swapped), by block `block` of those behind a weight adjoint's
__device__ __forceinline__ void bias_of(const Geometry& s, int swapped, const float* x, const float* y, const Mask& mask, float* gb, int span,
                                        float* partial, unsigned int* arrived, int block, float* all) {
    long long pixels = (long long)s.N * (swapped ? s.H : s.OH) * (swapped ? s.W : s.OW);
    bias_gradient(swapped ? x : y, mask, gb, pixels, swapped ? s.C : s.O, span, partial, arrived + BLOCKS, block, all);
}
