// Two-dimensional convolution and its two adjoints as products of matrices that are never made: an operand computes where a number lies
// when the tile asks for it.         x (N, H, W, C)     w (KH, KW, C, O)     y (N, OH, OW, O)
//
//                   C[i, j]                     A[i, k]                                   B[k, j]
//     forward       y  i = pixel (n, oh, ow)    x at the pixel's window, k = tap          w  k = tap (kh, kw, c), j = o
//     weight adj.   gw i = tap (kh, kw, c)      x, rows and columns swapped, k = pixel    gy k = pixel, j = o
//     input adj.    gx i = pixel (n, h, w)      gy at the outputs that saw the pixel      w  k = (kh, kw, o), j = c
//
// The input adjoint, which is also the forward of a transposed convolution, is one product for each of the sh x sw phases of (h, w), since
// only every sh-th row and every sw-th column of the kernel meets a pixel; here stride 2, kernel 4, one row of pixels:
//
//     h + top    0 1 2 3 4 5 ...       phase 0: even pixels meet kh = 0, 2       phase 1: odd pixels meet kh = 1, 3
//
// Grid: x tiles down, y tiles across, z parts of K (forward, weights) or phases (input).
#include "tile.cu"

struct Geometry {
    int N, H, W, C, OH, OW, O, KH, KW, sh, sw, top, left;
};

// A place that is not there lies far above every image: were its pointer null, the compiler would forget that it is one of global memory.
#define NOWHERE (-(1 << 30))

struct Place {
    const float* image;
    int h, w;
};

struct Tap {
    int h, w;
    int offset;
};

// x in windows: outer = output pixel, inner = tap; or, SWAPPED, outer = tap, inner = output pixel
__device__ __forceinline__ Place window_of(const Geometry& s, const float* x, int pixel) {
    int ow = pixel % s.OW, row = pixel / s.OW;
    return {x + (long long)(row / s.OH) * s.H * s.W * s.C, row % s.OH * s.sh - s.top, ow * s.sw - s.left};
}

__device__ __forceinline__ Tap tap_of(const Geometry& s, int tap) {
    int c = tap % s.C, kernel = tap / s.C;
    return {kernel / s.KW, kernel % s.KW, c};
}

__device__ __forceinline__ float through_window(const Geometry& s, const Place& place, const Tap& tap) {
    int h = place.h + tap.h, w = place.w + tap.w;
    bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
    return inside ? place.image[((long long)h * s.W + w) * s.C + tap.offset] : 0;
}

struct Windows {
    static constexpr bool ALONG_K = true;
    typedef Place Outer;
    typedef Tap Inner;
    Geometry s;
    const float* x;

    __device__ __forceinline__ Outer outer(int pixel) const {
        return pixel < s.N * s.OH * s.OW ? window_of(s, x, pixel) : Place{x, NOWHERE, 0};
    }
    __device__ __forceinline__ Inner inner(int tap) const { return tap_of(s, tap); }
    __device__ __forceinline__ float at(const Outer& place, const Inner& tap) const { return through_window(s, place, tap); }
};

struct WindowsSwapped {
    static constexpr bool ALONG_K = false;
    typedef Tap Outer;
    typedef Place Inner;
    Geometry s;
    const float* x;

    __device__ __forceinline__ Outer outer(int tap) const {
        return tap < s.KH * s.KW * s.C ? tap_of(s, tap) : Tap{NOWHERE, 0, 0};
    }
    __device__ __forceinline__ Inner inner(int pixel) const { return window_of(s, x, pixel); }
    __device__ __forceinline__ float at(const Outer& tap, const Inner& place) const { return through_window(s, place, tap); }
};

// count columns, K rows
struct Columns {
    static constexpr bool ALONG_K = false;
    typedef int Outer;
    typedef const float* Inner;
    const float* data;
    int count;

    __device__ __forceinline__ Outer outer(int j) const { return j; }
    __device__ __forceinline__ Inner inner(int k) const { return data + (long long)k * count; }
    __device__ __forceinline__ float at(Outer j, Inner row) const { return j < count ? row[j] : 0; }
};

// One phase: pixels h = h0 + sh a, w = w0 + sw b, which meet kh = ph + sh q, kw = pw + sw r at outputs (ah + a - q, aw + b - r)
struct Phase {
    int ph, pw, h0, w0, rows, columns, ah, aw, QH, QW;
};

__device__ __forceinline__ int count_from(int first, int end, int step) { return first < end ? (end - first + step - 1) / step : 0; }

__device__ __forceinline__ Phase phase_of(const Geometry& s, int number) {
    Phase p;
    p.ph = number / s.sw;
    p.pw = number % s.sw;
    p.h0 = ((p.ph - s.top) % s.sh + s.sh) % s.sh;
    p.w0 = ((p.pw - s.left) % s.sw + s.sw) % s.sw;
    p.rows = count_from(p.h0, s.H, s.sh);
    p.columns = count_from(p.w0, s.W, s.sw);
    p.ah = (p.h0 + s.top - p.ph) / s.sh;
    p.aw = (p.w0 + s.left - p.pw) / s.sw;
    p.QH = count_from(p.ph, s.KH, s.sh);
    p.QW = count_from(p.pw, s.KW, s.sw);
    return p;
}

struct Outputs {
    static constexpr bool ALONG_K = true;
    typedef Place Outer;  // the output that meets tap (0, 0) of the phase
    typedef Tap Inner;
    Geometry s;
    Phase p;
    const float* y;

    __device__ __forceinline__ Outer outer(int pixel) const {
        bool there = pixel < s.N * p.rows * p.columns;
        int b = pixel % p.columns, row = there ? pixel / p.columns : 0;
        return {y + (long long)(row / p.rows) * s.OH * s.OW * s.O, there ? p.ah + row % p.rows : NOWHERE, p.aw + b};
    }
    __device__ __forceinline__ Inner inner(int k) const {
        int o = k % s.O, tap = k / s.O;
        return {tap / p.QW, tap % p.QW, o};
    }
    __device__ __forceinline__ float at(const Outer& place, const Inner& tap) const {
        int h = place.h - tap.h, w = place.w - tap.w;
        bool inside = h >= 0 && h < s.OH && w >= 0 && w < s.OW;
        return inside ? place.image[((long long)h * s.OW + w) * s.O + tap.offset] : 0;
    }
};

struct WeightsOfPhase {
    static constexpr bool ALONG_K = true;
    typedef int Outer;
    typedef const float* Inner;
    Geometry s;
    Phase p;
    const float* w;

    __device__ __forceinline__ Outer outer(int c) const { return c; }
    __device__ __forceinline__ Inner inner(int k) const {
        int o = k % s.O, tap = k / s.O;
        int kh = p.ph + s.sh * (tap / p.QW), kw = p.pw + s.sw * (tap % p.QW);
        return w + (long long)(kh * s.KW + kw) * s.C * s.O + o;
    }
    __device__ __forceinline__ float at(Outer c, Inner element) const { return c < s.C ? element[(long long)c * s.O] : 0; }
};

struct ResultOfPhase {
    Geometry s;
    Phase p;
    float* x;
    const float* bias;
    int activation;

    __device__ __forceinline__ void put(int pixel, int c, float value) const {
        if (pixel >= s.N * p.rows * p.columns || c >= s.C) return;
        int b = pixel % p.columns, row = pixel / p.columns;
        long long h = p.h0 + (long long)s.sh * (row % p.rows), w = p.w0 + (long long)s.sw * b;
        x[((row / p.rows * (long long)s.H + h) * s.W + w) * s.C + c] = activated(bias ? value + bias[c] : value, activation);
    }
};

#define CONV(ROWS, COLUMNS)                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256) KERNEL(conv##COLUMNS##_forward)(                                                    \
        const float* x, const float* w, const float* bias, float* y, Geometry geometry, int span, int activation) {                       \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        int M = geometry.N * geometry.OH * geometry.OW, K = geometry.KH * geometry.KW * geometry.C;                                       \
        Result result = {y + (long long)blockIdx.z * M * geometry.O, bias, M, geometry.O, activation};                                    \
        int k0 = blockIdx.z * span, k1 = K - k0 < span ? K : k0 + span;                                                                   \
        multiply<ROWS, COLUMNS>(Windows{geometry, x}, Columns{w, geometry.O}, result, blockIdx.x * ROWS, blockIdx.y * COLUMNS, k0, k1, of_a, of_b); \
    }                                                                                                                                     \
                                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                                                                     \
        KERNEL(conv##COLUMNS##_weights)(const float* x, const float* g, float* gw, Geometry geometry, int span) {                         \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        int M = geometry.KH * geometry.KW * geometry.C, K = geometry.N * geometry.OH * geometry.OW;                                       \
        Result result = {gw + (long long)blockIdx.z * M * geometry.O, nullptr, M, geometry.O, 0};                                         \
        int k0 = blockIdx.z * span, k1 = K - k0 < span ? K : k0 + span;                                                                   \
        multiply<ROWS, COLUMNS>(WindowsSwapped{geometry, x}, Columns{g, geometry.O}, result, blockIdx.x * ROWS, blockIdx.y * COLUMNS, k0, k1, \
                       of_a, of_b);                                                                                                       \
    }                                                                                                                                     \
                                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) KERNEL(conv##COLUMNS##_input)(                                                      \
        const float* g, const float* w, const float* bias, float* gx, Geometry geometry, int activation) {                                \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        Phase phase = phase_of(geometry, blockIdx.z);                                                                                     \
        if ((int)blockIdx.x * ROWS >= geometry.N * phase.rows * phase.columns) return; /* phases differ by a row or a column */           \
        ResultOfPhase result = {geometry, phase, gx, bias, activation};                                                                   \
        multiply<ROWS, COLUMNS>(Outputs{geometry, phase, g}, WeightsOfPhase{geometry, phase, w}, result, blockIdx.x * ROWS, blockIdx.y * COLUMNS, \
                       0, phase.QH * phase.QW * geometry.O, of_a, of_b);                                                                  \
    }

CONV(64, 64)
CONV(128, 32)
CONV(256, 16)
