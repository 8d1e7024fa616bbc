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
// Grid: x tiles down, y tiles across, z parts of K (forward) or phases (input).  The weight adjoint has its parts beside each other, tile
// after tile, and behind them the blocks of the bias's gradient.  A gradient may go back through a relu while it is read, if it is given
// the `value` y.  Images of few channels have kernels of their own, which padding does not fill up: fold.cu and few.cu.
#include "tile.cu"
#include "geometry.cu"

struct Windows {
    static constexpr bool ALONG_K = true;
    typedef Place Outer;
    typedef Tap Inner;
    Geometry s;
    const float* x;
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int pixel) const {
        return pixel < s.N * s.OH * s.OW ? window_of(s, x, pixel) : Place{x, NOWHERE, 0};
    }
    __device__ __forceinline__ Inner inner(int tap) const { return tap_of(s, tap); }
    __device__ __forceinline__ bool inside(const Outer& place, const Inner& tap) const { return in_image(s, place, tap); }
    __device__ __forceinline__ const float* address(const Outer& place, const Inner& tap) const { return beyond(place.number, tap.bytes); }
};

struct WindowsSwapped {
    static constexpr bool ALONG_K = false;
    typedef Tap Outer;
    typedef Place Inner;
    Geometry s;
    const float* x;
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int tap) const { return tap < s.KH * s.KW * s.C ? tap_of(s, tap) : Tap{0, NOWHERE, 0}; }
    __device__ __forceinline__ Inner inner(int pixel) const { return window_of(s, x, pixel); }
    __device__ __forceinline__ bool inside(const Outer& tap, const Inner& place) const { return in_image(s, place, tap); }
    __device__ __forceinline__ const float* address(const Outer& tap, const Inner& place) const { return beyond(place.number, tap.bytes); }
};

// count columns, K rows
struct Columns {
    static constexpr bool ALONG_K = false;
    typedef int Outer;
    typedef const float* Inner;
    const float* data;
    int count;
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int j) const { return j; }
    __device__ __forceinline__ Inner inner(int k) const { return beyond(data, k, 4 * count); }
    __device__ __forceinline__ bool inside(Outer j, Inner) const { return j < count; }
    __device__ __forceinline__ const float* address(Outer j, Inner row) const { return row + j; }
};

// One phase: pixels h = h0 + sh a, w = w0 + sw b, which meet kh = ph + sh q, kw = pw + sw r at outputs (ah + a - q, aw + b - r)
struct Phase {
    int ph, pw, h0, w0, rows, columns, ah, aw, QH, QW;
    Divisor by_QW;
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
    p.by_QW = p.QW > s.KW / s.sw && p.QW > 1 ? s.by_wide : s.by_narrow;
    return p;
}

struct Outputs {
    static constexpr bool ALONG_K = true;
    typedef Place Outer;  // the output that meets tap (0, 0) of the phase
    typedef Tap Inner;
    Geometry s;
    Phase p;
    const float* y;
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int pixel) const {
        bool there = pixel < s.N * p.rows * p.columns;
        if (!there) pixel = 0;  // and not two ways to return: the pointer would lose its address space
        int row = pixel / p.columns, n = row / p.rows, h = p.ah + row - n * p.rows, w = p.aw + pixel - row * p.columns;
        return {beyond(y, (n * s.OH + h) * s.OW + w, 4 * s.O), there ? h : NOWHERE, w};
    }
    __device__ __forceinline__ Inner inner(int k) const {
        int tap = quotient(k, s.by_O), h = quotient(tap, p.by_QW), w = tap - h * p.QW;
        return {4 * (k - tap * s.O - (h * s.OW + w) * s.O), h, w};
    }
    __device__ __forceinline__ bool inside(const Outer& place, const Inner& tap) const {
        return (unsigned int)(place.h - tap.h) < (unsigned int)s.OH && (unsigned int)(place.w - tap.w) < (unsigned int)s.OW;
    }
    __device__ __forceinline__ const float* address(const Outer& place, const Inner& tap) const { return beyond(place.number, tap.bytes); }
};

struct WeightsOfPhase {
    static constexpr bool ALONG_K = true;
    typedef int Outer;
    typedef const float* Inner;
    Geometry s;
    Phase p;
    const float* w;
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int c) const { return c; }
    __device__ __forceinline__ Inner inner(int k) const {
        int tap = quotient(k, s.by_O), h = quotient(tap, p.by_QW);
        int kh = p.ph + s.sh * h, kw = p.pw + s.sw * (tap - h * p.QW);
        return beyond(w, (kh * s.KW + kw) * s.C, 4 * s.O) + k - tap * s.O;
    }
    __device__ __forceinline__ bool inside(Outer c, Inner) const { return c < s.C; }
    __device__ __forceinline__ const float* address(Outer c, Inner element) const { return beyond(element, c, 4 * s.O); }
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

// Without the bound on blocks ptxas keeps to the registers of three and spills: weights, 256 taps by 16 channels; forward, 32, on sm_100
#define CONV(ROWS, COLUMNS)                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256, COLUMNS == 16 ? 1 : 2) KERNEL(conv##COLUMNS##_forward)(                             \
        const float* x, const float* value, const float* w,   const float* bias, float* y, float* partial, unsigned int* arrived,         \
        Geometry geometry, int span, int activation) {                                                                                    \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        int M = geometry.N * geometry.OH * geometry.OW, K = geometry.KH * geometry.KW * geometry.C;                                       \
        Mask mask = mask_of(x, value);                                                                                                    \
        Result result = {y, bias, M, geometry.O, activation};                                                                             \
        Parts parts = parts_of<ROWS, COLUMNS>(partial, arrived, blockIdx.y * gridDim.x + blockIdx.x, gridDim.z);                          \
        multiply<ROWS, COLUMNS>((geometry.C | geometry.O) % 4 == 0 && aligned(x, w, mask), Windows{geometry, x, mask},                    \
                                Columns{w, geometry.O}, result, blockIdx.x * ROWS, blockIdx.y * COLUMNS, K, span, parts, blockIdx.z,      \
                                of_a, of_b);                                                                                              \
    }                                                                                                                                     \
                                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256, COLUMNS == 16 ? 1 : 2) KERNEL(conv##COLUMNS##_weights)(                             \
        const float* x, const float* g, const float* value, float* gw, float* gb, float* partial, unsigned int* arrived,                  \
        Geometry geometry, int span, int span_b, int blocks, int swapped) {                                                               \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        int M = geometry.KH * geometry.KW * geometry.C, K = geometry.N * geometry.OH * geometry.OW, block = blockIdx.x;                   \
        int parts = K > span ? (K + span - 1) / span : 1, tile = block / parts, down = (M + ROWS - 1) / ROWS;                             \
        Mask mask = mask_of(swapped ? x : g, value);                                                                                      \
        if (block < blocks) { /* two products, so that no operand asks for a mask that it never has */                                    \
            Result result = {gw, nullptr, M, geometry.O, 0};                                                                              \
            bool quads = (geometry.C | geometry.O) % 4 == 0 && aligned(x, g, mask);                                                       \
            Parts own = parts_of<ROWS, COLUMNS>(partial, arrived, tile, parts);                                                           \
            int i0 = tile % down * ROWS, j0 = tile / down * COLUMNS, part = block % parts;                                                \
            if (swapped)                                                                                                                  \
                multiply<ROWS, COLUMNS>(quads, WindowsSwapped{geometry, x, mask}, Columns{g, geometry.O}, result, i0, j0, K, span, own,   \
                                        part, of_a, of_b);                                                                                \
            else                                                                                                                          \
                multiply<ROWS, COLUMNS>(quads, WindowsSwapped{geometry, x}, Columns{g, geometry.O, mask}, result, i0, j0, K, span, own,   \
                                        part, of_a, of_b);                                                                                \
        } else {                                                                                                                          \
            partial += parts > 1 ? (long long)blocks * ROWS * COLUMNS : 0;                                                                \
            bias_of(geometry, swapped, x, g, mask, gb, span_b, partial, arrived, block - blocks, &of_a[0].number[0][0]);                  \
        }                                                                                                                                 \
    }

#define CONV_INPUT(ROWS, COLUMNS)                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) KERNEL(conv##COLUMNS##_input)(                                                      \
        const float* g, const float* value, const float* w, const float* bias, float* gx, Geometry geometry,                              \
        int activation) {                                                                                                                 \
        PANELS(ROWS, COLUMNS);                                                                                                            \
        Phase phase = phase_of(geometry, blockIdx.z);                                                                                     \
        if ((int)blockIdx.x * ROWS >= geometry.N * phase.rows * phase.columns) return; /* phases differ by a row or a column */           \
        ResultOfPhase result = {geometry, phase, gx, bias, activation};                                                                   \
        int K = phase.QH * phase.QW * geometry.O;                                                                                         \
        Mask mask = mask_of(g, value);                                                                                                    \
        multiply<ROWS, COLUMNS>(geometry.O % 4 == 0 && aligned(g, w, mask), Outputs{geometry, phase, g, mask},                            \
                                WeightsOfPhase{geometry, phase, w}, result, blockIdx.x * ROWS, blockIdx.y * COLUMNS, K, K,                \
                                Parts{nullptr, nullptr, 1}, 0, of_a, of_b);                                                               \
    }

CONV(64, 64)
CONV(128, 32)
CONV(256, 16)
CONV_INPUT(64, 64)
CONV_INPUT(128, 32)
