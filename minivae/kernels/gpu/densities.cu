// Log densities and divergences, summed over an event (a row), and the gradients that go back from them.  In nats.
//
//     rows x columns  ->  rows        a team of threads (common.cu) strides along its row, then adds up in one order
//     rows  ->  rows x columns        one thread a number; every number of a row takes its row's gradient
#include "common.cu"

#define LOG_2PI 1.83787706640934548f

// f summed over the team's row.  Teams past the last row take part in the barriers, and in nothing else.
#define SUM_OF_ROW(RESULT, EXPRESSION)                                                          \
    __shared__ float of_warp[WARPS];                                                            \
    long long row = row_of_team();                                                              \
    float sum = 0;                                                                              \
    if (row < rows)                                                                             \
        for (long long i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x) sum += EXPRESSION; \
    sum = team_sum(sum, of_warp);                                                               \
    if (row < rows && threadIdx.x == 0) RESULT[row] = sum;

// log p = x l - log(1 + e^l), and what its gradient in l needs: the residual x - sigmoid(l)
__device__ __forceinline__ float bernoulli(float l, float x, float* residual) {
    float e = expf(-fabsf(l));
    *residual = x - (l >= 0 ? 1.0f : e) / (1.0f + e);
    // x l - max(l, 0) as one product: the difference of two large numbers would leave no digit for a certain pixel
    return (x - (l > 0 ? 1.0f : 0.0f)) * l - log1pf(e);
}

extern "C" __global__ void bernoulli_log_prob(const float* logits, const float* x, float* residual, float* log_prob, long long rows,
                                              long long columns) {
    SUM_OF_ROW(log_prob, bernoulli(logits[i], x[i], residual + i))
}

// g_row * factor, once or twice: the gradient of every row sum whose slope was saved
extern "C" __global__ void scale_rows(const float* g, const float* factor, float* product, long long rows, long long columns) {
    EACH(i, rows * columns) product[i] = g[i / columns] * factor[i];
}

// z = mean + sigma eps
extern "C" __global__ void reparameterize(const float* mean, const float* logvar, const float* eps, float* sigma, float* z, long long n) {
    EACH(i, n) {
        float s = expf(logvar[i] / 2);
        sigma[i] = s;
        z[i] = mean[i] + s * eps[i];
    }
}

extern "C" __global__ void reparameterize_gradient(const float* g, const float* sigma, const float* eps, float* glogvar, float* geps,
                                                   long long n) {
    EACH(i, n) {
        float product = g[i] * sigma[i];
        geps[i] = product;
        glogvar[i] = product * eps[i] / 2;
    }
}

// e^x - 1 - x to rounding: by its series where the difference cancels.  0.5^8 / 10! < 2^-24
__device__ __forceinline__ float exp_remainder(float x) {
    if (fabsf(x) >= 0.5f) return expm1f(x) - x;
    float series = 1;
    for (int n = 9; n > 2; --n) series = 1 + x / n * series;
    return x * x / 2 * series;
}

__device__ __forceinline__ float kl_term(float mean, float logvar) { return (mean * mean + exp_remainder(logvar)) / 2; }

// KL(N(mean, sigma^2) || N(0, 1)) = 1/2 sum mean^2 + e^l - 1 - l
extern "C" __global__ void gaussian_kl_standard(const float* mean, const float* logvar, float* kl, long long rows, long long columns) {
    SUM_OF_ROW(kl, kl_term(mean[i], logvar[i]))
}

extern "C" __global__ void gaussian_kl_standard_gradient(const float* g, const float* mean, const float* logvar, float* gmean,
                                                         float* glogvar, long long rows, long long columns) {
    EACH(i, rows * columns) {
        gmean[i] = g[i / columns] * mean[i];
        glogvar[i] = g[i / columns] * expm1f(logvar[i]) / 2;
    }
}

// What the encoder's Gaussian is asked for in every step, in one pass: z = mean + sigma eps, and the KL of each row.
__device__ __forceinline__ float sample(const float* mean, const float* logvar, const float* eps, float* sigma, float* z, long long i) {
    sigma[i] = expf(logvar[i] / 2);
    z[i] = mean[i] + sigma[i] * eps[i];
    return kl_term(mean[i], logvar[i]);
}

extern "C" __global__ void sample_and_kl(const float* mean, const float* logvar, const float* eps, float* sigma, float* z, float* kl,
                                         long long rows, long long columns) {
    SUM_OF_ROW(kl, sample(mean, logvar, eps, sigma, z, i))
}

extern "C" __global__ void sample_and_kl_gradient(const float* gz, const float* gkl, const float* mean, const float* logvar,
                                                  const float* eps, const float* sigma, float* gmean, float* glogvar, long long rows,
                                                  long long columns) {
    EACH(i, rows * columns) {
        float of_row = gkl[i / columns];
        gmean[i] = gz[i] + of_row * mean[i];
        glogvar[i] = (gz[i] * sigma[i] * eps[i] + of_row * expm1f(logvar[i])) / 2;
    }
}

// log N(x; mean, sigma^2) = -1/2 sum d^2 + l + log 2 pi with d = (x - mean) / sigma
__device__ __forceinline__ float gaussian(float x, float mean, float logvar, float* deviation, float* inverse) {
    float inv = expf(-logvar / 2);  // 1 / sigma and not 1 / sigma^2, which overflows twice as early
    float d = (x - mean) * inv;
    *deviation = d;
    *inverse = inv;
    return -(d * d + logvar + LOG_2PI) / 2;
}

extern "C" __global__ void gaussian_log_prob(const float* x, const float* mean, const float* logvar, float* deviation, float* inverse,
                                             float* log_prob, long long rows, long long columns) {
    SUM_OF_ROW(log_prob, gaussian(x[i], mean[i], logvar[i], deviation + i, inverse + i))
}

extern "C" __global__ void gaussian_log_prob_gradient(const float* g, const float* deviation, const float* inverse, float* gx, float* gmean,
                                                      float* glogvar, long long rows, long long columns) {
    EACH(i, rows * columns) {
        float of_row = g[i / columns], d = deviation[i];
        gmean[i] = of_row * d * inverse[i];
        gx[i] = -gmean[i];
        glogvar[i] = of_row * (d * d - 1) / 2;
    }
}
