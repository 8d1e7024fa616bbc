// The input adjoint of a convolution, which is also the forward of a transposed one, where the image has so few channels that a tile of
// conv.cu would be padding for the most part.
//
//     P[i, tap] = sum over o of y[i, o] w[tap, o]              a product without padding: i = pixel of y, tap = (kh, kw, c)
//     x[h, w, c] = sum over (oh, ow) of P[(oh, ow), (h + top - sh oh, w + left - sw ow, c)]            of the few taps in the kernel
//
// A block makes 256 rows of P for TAPS taps at a time in shared memory, and folds them into those pixels of x for which it has all that is
// needed.  Pixel (h, w) belongs to an anchor, the last output (a, b) that may meet it: a = floor((h + top) / sh), b likewise, each clipped
// to where there are outputs.  What meets it lies at most `halo` places before its anchor in the order of the rows:
//
//     rows of P          halo | 256 - halo anchors           pixels of y in reading order, image after image; where y is wide, a strip of
//     next block                      halo | ...             `strip` columns, whose first do not count: the strip before has `own` anchors
//
// So every pixel of x has one thread that adds up its numbers, in one order.         Grid: x blocks of anchors, y strips
#include "tile.cu"
#include "geometry.cu"

#define TAPS 16
#define ROWS 256
#define PITCH (TAPS + 1)  // floats: with it, 32 threads that read the same tap of neighbouring rows meet 32 banks

// Rows of y in a strip that begins at column `left`
struct Strip : Matrix<true> {
    Geometry s;
    int left;

    __device__ __forceinline__ Outer outer(int i) const {
        int row = quotient(i, s.by_strip), column = left + i - row * s.strip;
        bool there = i >= 0 && row < s.N * s.OH && (unsigned int)column < (unsigned int)s.OW;
        return {beyond(data, there ? row * s.OW + column : 0, 4 * s.O), there};
    }
};

struct Shared {
    float* products;  // (ROWS, PITCH)

    __device__ __forceinline__ void put(int i, int tap, float value) const { products[i * PITCH + tap] = value; }
};

// The sum of what meets pixel (h, w) in channel c, of taps t0 ... t0 + TAPS - 1; its anchor (a, b) is row i
__device__ __forceinline__ float met(const Geometry& s, const float* products, int i, int a, int b, int h, int w, int c, int t0) {
    float sum = 0;
    for (int oh = a, kh = h + s.top - a * s.sh; oh >= 0 && kh < s.KH; --oh, kh += s.sh)
        for (int ow = b, kw = w + s.left - b * s.sw; ow >= 0 && kw < s.KW; --ow, kw += s.sw) {
            int tap = (kh * s.KW + kw) * s.C + c - t0;
            if ((unsigned int)tap < TAPS) sum += products[(i - (a - oh) * s.strip - (b - ow)) * PITCH + tap];
        }
    return sum;
}

extern "C" __global__ void __launch_bounds__(256, 1) KERNEL(fold_input)(
    const float* g, const float* value, const float* w, const float* bias, float* gx, Geometry geometry, int activation) {
    PANELS(ROWS, TAPS);
    const Geometry& s = geometry;
    float* products = &of_a[0].number[0][0];
    Mask mask = mask_of(g, value);
    int taps = s.KH * s.KW * s.C, anchors = ROWS - s.halo, first = blockIdx.x * anchors - s.halo, begin = blockIdx.y * s.own;
    int left = s.own < s.OW ? begin - (s.strip - s.own) : 0;
    bool quads = s.O % 4 == 0 && aligned(g, w, mask);
    int i = s.halo + (int)threadIdx.x, row = quotient(first + i, s.by_strip), b = left + first + i - row * s.strip;
    int n = quotient(row, s.by_OH), a = row - n * s.OH;
    bool anchor = i < ROWS && row < s.N * s.OH && b >= begin && b < begin + s.own && b < s.OW;
    // the pixels that belong to it: those from the image's edge on, if no output lies before it
    int top = a == 0 ? 0 : a * s.sh - s.top, end_h = a == s.OH - 1 || (a + 1) * s.sh - s.top > s.H ? s.H : (a + 1) * s.sh - s.top;
    int start = b == 0 ? 0 : b * s.sw - s.left, end_w = b == s.OW - 1 || (b + 1) * s.sw - s.left > s.W ? s.W : (b + 1) * s.sw - s.left;
    for (int t0 = 0; t0 < taps; t0 += TAPS) {
        Core<ROWS, TAPS> core;
        Strip of_rows = {{g, 0, s.O, mask}, s, left};
        Matrix<true> of_columns = {beyond(w, t0, 4 * s.O), taps - t0, s.O};
        if (quads)
            add_up<true>(core, of_rows, of_columns, first, 0, 0, s.O, of_a, of_b);
        else
            add_up<false>(core, of_rows, of_columns, first, 0, 0, s.O, of_a, of_b);
        core.put(Shared{products}, 0, 0);
        __syncthreads();
        if (anchor)
            for (int h = top < 0 ? 0 : top; h < end_h; ++h)
                for (int column = start < 0 ? 0 : start; column < end_w; ++column)
                    for (int c = 0; c < s.C; ++c) {
                        float* x = gx + (((long long)n * s.H + h) * s.W + column) * s.C + c;
                        float sum = met(s, products, i, a, b, h, column, c, t0) + (t0 ? *x : 0);
                        if (t0 + TAPS >= taps) sum = activated(bias ? sum + bias[c] : sum, activation);
                        *x = sum;
                    }
        __syncthreads();
    }
}
