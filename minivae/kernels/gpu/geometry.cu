// The sizes of a convolution, and where its windows and the numbers in them lie: for conv.cu, fold.cu and few.cu.

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
struct Geometry {
    int N, H, W, C, OH, OW, O, KH, KW, sh, sw, top, left;
    Divisor by_C, by_KW, by_OH, by_OW, by_O, by_narrow, by_wide;
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

// x in windows: outer = output pixel, inner = tap; or, SWAPPED, outer = tap, inner = output pixel
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
