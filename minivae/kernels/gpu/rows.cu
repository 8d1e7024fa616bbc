// Reductions along a row: log-sum-exp, softmax and its logarithm, with their gradients.  A team of threads a row (common.cu).
#include "common.cu"

__device__ __forceinline__ float largest_of_row(const float* x, long long columns, float* of_warp, bool present) {
    float largest = -infinity();
    if (present)
        for (long long i = threadIdx.x; i < columns; i += blockDim.x) largest = fmaxf(largest, x[i]);
    largest = team_max(largest, of_warp);
    return fabsf(largest) < infinity() ? largest : 0;  // -inf - -inf is NaN, and log 0 = -inf is the answer
}

__device__ __forceinline__ float exponentials_of_row(const float* x, float largest, long long columns, float* of_warp, bool present) {
    float sum = 0;
    if (present)
        for (long long i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(x[i] - largest);
    return team_sum(sum, of_warp);
}

// y = m + log sum e^(x - m) with m = max x; m and the sum are kept for the gradient
extern "C" __global__ void logsumexp(const float* x, float* y, float* largest, float* total, long long rows, long long columns) {
    __shared__ float of_max[WARPS], of_sum[WARPS];
    long long row = row_of_team();
    bool present = row < rows;
    float m = largest_of_row(x + row * columns, columns, of_max, present);
    float sum = exponentials_of_row(x + row * columns, m, columns, of_sum, present);
    if (present && threadIdx.x == 0) {
        y[row] = logf(sum) + m;
        largest[row] = m;
        total[row] = sum;
    }
}

// gx = g e^(x - m) / sum, and not g e^(x - y): y = -5000 is known to 2e-4 in float32, and so the gradient would be
extern "C" __global__ void logsumexp_gradient(const float* g, const float* x, const float* largest, const float* total, float* gx,
                                              long long rows, long long columns) {
    EACH(i, rows * columns) {
        long long row = i / columns;
        gx[i] = g[row] * (expf(x[i] - largest[row]) / (total[row] == 0 ? 1 : total[row]));
    }
}

// y = e^(x - m) / sum e^(x - m)
extern "C" __global__ void softmax(const float* x, float* y, long long rows, long long columns) {
    __shared__ float of_max[WARPS], of_sum[WARPS];
    long long row = row_of_team();
    bool present = row < rows;
    x += row * columns;
    float largest = -infinity();
    if (present)
        for (long long i = threadIdx.x; i < columns; i += blockDim.x) largest = fmaxf(largest, x[i]);
    largest = team_max(largest, of_max);
    float sum = exponentials_of_row(x, largest, columns, of_sum, present);
    if (present)
        for (long long i = threadIdx.x; i < columns; i += blockDim.x) y[row * columns + i] = expf(x[i] - largest) / sum;
}

// gx = y (g - <g, y>)
extern "C" __global__ void softmax_gradient(const float* g, const float* y, float* gx, long long rows, long long columns) {
    __shared__ float of_warp[WARPS];
    long long row = row_of_team();
    float product = 0;
    if (row < rows)
        for (long long i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x) product += g[i] * y[i];
    product = team_sum(product, of_warp);
    if (row < rows)
        for (long long i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x) gx[i] = y[i] * (g[i] - product);
}

// y = x - m - log sum e^(x - m)
extern "C" __global__ void log_softmax(const float* x, float* y, long long rows, long long columns) {
    __shared__ float of_max[WARPS], of_sum[WARPS];
    long long row = row_of_team();
    bool present = row < rows;
    x += row * columns;
    float largest = largest_of_row(x, columns, of_max, present);
    float total = logf(exponentials_of_row(x, largest, columns, of_sum, present));
    if (present)
        for (long long i = threadIdx.x; i < columns; i += blockDim.x) y[row * columns + i] = x[i] - largest - total;
}

// gx = g - e^y sum g
extern "C" __global__ void log_softmax_gradient(const float* g, const float* y, float* gx, long long rows, long long columns) {
    __shared__ float of_warp[WARPS];
    long long row = row_of_team();
    float sum = 0;
    if (row < rows)
        for (long long i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x) sum += g[i];
    sum = team_sum(sum, of_warp);
    if (row < rows)
        for (long long i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x) gx[i] = g[i] - expf(y[i]) * sum;
}
