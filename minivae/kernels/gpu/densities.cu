// Log densities and divergences, summed over an event (a row), and the gradients that go back from them.  In nats.
//
//     rows x columns  ->  rows        a team of threads (common.cu) strides along its row, then adds up in one order
//     rows  ->  rows x columns        one thread a number; every number of a row takes its row's gradient
#include "philox.cu"
#include "join.cu"

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

extern "C" __global__ void bernoulli_log_prob(const float* __restrict__ logits, const float* __restrict__ x, float* __restrict__ residual,
                                              float* log_prob, long long rows, long long columns) {
    SUM_OF_ROW(log_prob, bernoulli(logits[i], x[i], residual + i))
}

// A matrix that lies in another, or whose rows serve again and again: number (row, column) is at[row % period * pitch + column]
struct Rows {
    const float* at;
    long long size, period, pitch;

    __device__ __forceinline__ float operator()(long long row, long long column) const {
        return __ldg(at + row % period * pitch + column);
    }
};

// The sum, and the largest, of `width` neighbouring threads of a warp, a power of two; each of them gets it.
__device__ __forceinline__ float sum_of_few(float value, int width) {
    for (int distance = width / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(EVERYONE, value, distance);
    return value;
}

__device__ __forceinline__ float max_of_few(float value, int width) {
    for (int distance = width / 2; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(EVERYONE, value, distance));
    return value;
}

// loss = mean_n log k - log sum_s w,  log w = log p(x_n | z_sn) - kl_sn;  its gradients;  and the means over s of -log p and of kl.  A block a
// row s N + n; the last one has the sums over s and n, with `width` threads for each n.  Gradients: residual, of the logits, lacks the factor
// glikelihood of its row unless k = 1, where it is -1 / N for every row and known before.
extern "C" __global__ void bernoulli_bound(const float* __restrict__ logits, Rows x, const float* __restrict__ kl,
                                           float* __restrict__ residual, float* log_prob, unsigned int* arrived, float* loss,
                                           float* reconstruction, float* divergence, float* glikelihood, float* gkl, long long samples,
                                           long long images, long long columns) {
    __shared__ float of_warp[WARPS], of_loss[WARPS], last;
    long long row = blockIdx.x;
    float sum = 0, scale = samples == 1 ? -1.0f / (float)images : 1;
    for (long long column = threadIdx.x; column < columns; column += blockDim.x) {
        float of_logit;
        sum += bernoulli(logits[row * columns + column], x(row, column), &of_logit);
        residual[row * columns + column] = scale * of_logit;
    }
    sum = team_sum(sum, of_warp);
    if (threadIdx.x == 0) log_prob[row] = sum;
    if (!last_of(arrived, gridDim.x, &last)) return;

    int width = 1;
    while (width < 32 && width < samples) width *= 2;
    float all = 0;
    for (long long first = 0; first < images; first += blockDim.x / width) {
        long long n = first + threadIdx.x / width;
        float likelihoods = 0, divergences = 0, largest = -infinity(), total = 0;
        int lane = n < images ? threadIdx.x % width : samples;
        for (long long s = lane; s < samples; s += width) {
            float of_likelihood = __ldcg(log_prob + s * images + n), of_kl = kl[s * images + n];
            likelihoods += of_likelihood;
            divergences += of_kl;
            largest = fmaxf(largest, of_likelihood - of_kl);
        }
        largest = max_of_few(largest, width);
        largest = fabsf(largest) < infinity() ? largest : 0;  // -inf - -inf is NaN, and log 0 = -inf is the answer
        for (long long s = lane; s < samples; s += width) total += expf(__ldcg(log_prob + s * images + n) - kl[s * images + n] - largest);
        total = sum_of_few(total, width);
        for (long long s = lane; s < samples; s += width) {
            float share = expf(__ldcg(log_prob + s * images + n) - kl[s * images + n] - largest) / (total == 0 ? 1 : total) / (float)images;
            glikelihood[s * images + n] = -share;
            gkl[s * images + n] = share;
        }
        likelihoods = sum_of_few(likelihoods, width);
        divergences = sum_of_few(divergences, width);
        if (n < images && threadIdx.x % width == 0) {
            reconstruction[n] = -(likelihoods / (float)samples);
            divergence[n] = divergences / (float)samples;
            all += (samples == 1 ? 0 : logf((float)samples)) - (logf(total) + largest);
        }
    }
    all = team_sum(all, of_loss);
    if (threadIdx.x == 0) loss[0] = all / (float)images;
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

// What the encoder's Gaussian is asked for in every step, in one pass: z = mean + sigma eps, eps drawn on the way if it is not given, and
// of each row its KL to N(0, I), or the estimate of it by z, log N(z; mean, sigma^2) - log N(z; 0, 1) = 1/2 sum z^2 - eps^2 - log sigma^2.
extern "C" __global__ void sample_and_kl(Rows mean, Rows logvar, float* eps, const unsigned long long* step, unsigned long long key,
                                         unsigned long long counter, float* sigma, float* z, float* kl, long long rows, long long columns,
                                         int drawn, int estimate) {
    __shared__ float of_warp[WARPS];
    long long row = row_of_team(), pairs = (rows * columns + 1) / 2;
    look(step, key, counter);
    float sum = 0;
    if (row < rows)
        for (long long column = threadIdx.x; column < columns; column += blockDim.x) {
            long long i = row * columns + column;
            float m = mean(row, column), l = logvar(row, column), s = expf(l / 2);
            if (drawn) {
                Normals two = normal_pair(key, counter, i < pairs ? i : i - pairs, pairs);
                eps[i] = i < pairs ? two.cosine : two.sine;
            }
            sigma[i] = s;
            z[i] = m + s * eps[i];
            sum += estimate ? (z[i] * z[i] - eps[i] * eps[i] - l) / 2 : kl_term(m, l);
        }
    sum = team_sum(sum, of_warp);
    if (row < rows && threadIdx.x == 0) kl[row] = sum;
}

// The gradients of mean and logvar, summed over the samples of each row: threads above each other share them.   gz (samples, rows, columns)
// gmean lies in `gradient` with `pitch` from row to row, glogvar as far behind it as `second` says
extern "C" __global__ void sample_and_kl_gradient(const float* gz, const float* gkl, Rows mean, Rows logvar, const float* eps,
                                                  const float* sigma, const float* z, float* gradient, long long samples, long long rows,
                                                  long long columns, long long pitch, long long second, int estimate) {
    __shared__ float all[256];
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, row = i / columns, column = i % columns;
    float of_mean = 0, of_logvar = 0, of_kl = 0;
    if (row < rows)
        for (long long s = threadIdx.y; s < samples; s += blockDim.y) {
            long long at = s * rows * columns + i;
            float k = gkl[s * rows + row], g = estimate ? gz[at] + k * z[at] : gz[at];
            of_mean += g;
            of_logvar += g * sigma[at] * eps[at];
            of_kl += k;
        }
    of_mean = column_sum(of_mean, all, blockDim.x);
    of_logvar = column_sum(of_logvar, all, blockDim.x);
    of_kl = column_sum(of_kl, all, blockDim.x);
    if (threadIdx.y > 0 || row >= rows) return;
    gradient[row * pitch + column] = estimate ? of_mean : of_mean + of_kl * mean(row, column);
    gradient[row * pitch + column + second] = (of_logvar + (estimate ? -of_kl : of_kl * expm1f(logvar(row, column)))) / 2;
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
