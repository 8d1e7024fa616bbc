// Reductions down the columns of a matrix (rows, columns): batch norm.
//
//                columns                  A block is width x height threads, 256 in all; width = 32, or less for fewer columns.
//           +------+------+--+            It owns `width` columns of one part, `span` rows; thread (tx, ty) adds up rows ty,
//    part 0 |block |block |  |  span      ty + height, ... of column tx; the block then adds its height sums as a tree:
//           +------+------+--+
//    part 1 |      |      |  |                ty  0 1 2 3      0 += 2, 1 += 3       0 += 1
//           +------+------+--+
//                                         The parts' sums are left in memory, and `add_parts` adds them in order.
#include "common.cu"
#include "join.cu"

#define OWN(column, first, last)                                                   \
    long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;            \
    long long first = blockIdx.y * span + threadIdx.y;                              \
    long long last = blockIdx.y * span + span < rows ? blockIdx.y * span + span : rows; \
    if (column >= columns) last = 0;

// y[i] = sum over parts of partial[part][i]
extern "C" __global__ void add_parts(const float* partial, float* y, long long parts, long long n) {
    EACH(i, n) {
        float sum = 0;
        for (long long part = 0; part < parts; ++part) sum += partial[part * n + i];
        y[i] = sum;
    }
}

// Mean and sum of squared deviations of n numbers, and of two such sets together (Chan, Golub and LeVeque 1983, eq. 2.1): sums of squares
// would lose a small variance beside a large mean.
struct Moments {
    float n, mean, squares;
};

__device__ __forceinline__ Moments together(Moments a, Moments b) {
    if (b.n == 0) return a;
    float n = a.n + b.n, difference = b.mean - a.mean, share = b.n / n;
    return {n, a.mean + difference * share, a.squares + b.squares + difference * difference * a.n * share};
}

// partial: (parts, 3, columns)
extern "C" __global__ void column_moments(const float* x, float* partial, long long rows, long long columns, long long span) {
    __shared__ Moments all[256];
    OWN(column, first, last)
    Moments own = {0, 0, 0};
    for (long long row = first; row < last; row += blockDim.y) own = together(own, {1, x[row * columns + column], 0});
    int place = threadIdx.y * blockDim.x + threadIdx.x;
    all[place] = own;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) all[place] = together(all[place], all[place + half * blockDim.x]);
        __syncthreads();
    }
    if (threadIdx.y == 0 && column < columns) {
        float* to = partial + blockIdx.y * 3 * columns + column;
        to[0] = all[place].n, to[columns] = all[place].mean, to[2 * columns] = all[place].squares;
    }
}

extern "C" __global__ void add_moments(const float* partial, float* mean, float* var, float* inverse, float eps, long long parts,
                                       long long columns) {
    EACH(column, columns) {
        Moments all = {0, 0, 0};
        for (long long part = 0; part < parts; ++part) {
            const float* from = partial + part * 3 * columns + column;
            all = together(all, {from[0], from[columns], from[2 * columns]});
        }
        mean[column] = all.mean;
        var[column] = all.squares / all.n;
        inverse[column] = 1 / sqrtf(var[column] + eps);
    }
}

// y = gamma (x - mean) / sqrt(var + eps) + beta
extern "C" __global__ void batch_norm(const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
                                      float* y, long long n, long long columns) {
    EACH(i, n) {
        long long column = i % columns;
        y[i] = (x[i] - mean[column]) * inverse[column] * gamma[column] + beta[column];
    }
}

// partial: (parts, 2, columns), the sums of gy and of gy times the normalized x: the gradients of beta and gamma
extern "C" __global__ void batch_norm_sums(const float* gy, const float* x, const float* mean, const float* inverse, float* partial,
                                           long long rows, long long columns, long long span) {
    __shared__ float all[256];
    OWN(column, first, last)
    float sum = 0, product = 0;
    for (long long row = first; row < last; row += blockDim.y) {
        long long i = row * columns + column;
        sum += gy[i];
        product += gy[i] * ((x[i] - mean[column]) * inverse[column]);
    }
    sum = column_sum(sum, all, blockDim.x);
    product = column_sum(product, all, blockDim.x);
    if (threadIdx.y == 0 && column < columns) {
        partial[blockIdx.y * 2 * columns + column] = sum;
        partial[blockIdx.y * 2 * columns + columns + column] = product;
    }
}

// gx = inverse gamma (gy - <gy> - normal <gy normal>) + gmean / n + gvar 2 (x - mean) / n,  < > the mean over rows
extern "C" __global__ void batch_norm_gradient(const float* gy, const float* x, const float* mean, const float* inverse, const float* gamma,
                                               const float* sums, const float* gmean, const float* gvar, float* gx, long long rows,
                                               long long columns) {
    EACH(i, rows * columns) {
        long long column = i % columns;
        float centred = x[i] - mean[column], inv = inverse[column];
        float inner = gy[i] - sums[column] / rows - centred * inv * (sums[columns + column] / rows);
        gx[i] = inv * gamma[column] * inner + gmean[column] / rows + gvar[column] * (2.0f / rows) * centred;
    }
}
