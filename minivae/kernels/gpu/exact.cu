// Products of integers in double, for compress/portable.py: no sum reaches 2^53, so that each is exact, and any order gives the same bits.
//
//     thread    a column of w, and of ROWS rows of a the sums with it: a number of w is read once for all of them
//
// A column's neighbours in a warp read neighbouring numbers of w, and all of them the same of a.
#include "common.cu"

#define ROWS 4

// y += a w     a (rows, inner), w (inner, columns), y (rows, columns)
extern "C" __global__ void exact_product(const double* a, const double* w, double* y, long long rows, long long inner, long long columns) {
    EACH(i, (rows + ROWS - 1) / ROWS * columns) {
        long long column = i % columns, first = i / columns * ROWS;
        const double* row[ROWS];
        double sum[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            row[r] = a + (first + r < rows ? first + r : first) * inner;  // what is beyond the end is computed, and not stored
            sum[r] = 0;
        }
        for (long long k = 0; k < inner; ++k) {
            double weight = w[k * columns + column];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) sum[r] += row[r][k] * weight;
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
            if (first + r < rows) y[(first + r) * columns + column] += sum[r];
    }
}

// y <- scale y to the nearest integer, halves up, within low and high; scale is a power of 2
extern "C" __global__ void exact_round(double* y, double scale, double low, double high, long long n) {
    EACH(i, n) y[i] = fmin(fmax(floor(y[i] * scale + 0.5), low), high);
}
