// Nonlinearities of n numbers and their gradients.  Each reads and writes memory once: one thread a number, neighbours side by side.
#include "common.cu"

#define VALUE(NAME, EXPRESSION)                                                               \
    extern "C" __global__ void NAME(const float* xs, float* ys, float parameter, long long n) { \
        EACH(i, n) {                                                                          \
            float x = xs[i];                                                                  \
            ys[i] = EXPRESSION;                                                               \
        }                                                                                     \
    }

// `saved` is y where the slope can be read off the value (relu, tanh, sigmoid), and x elsewhere
#define GRADIENT(NAME, EXPRESSION)                                                                                          \
    extern "C" __global__ void NAME(const float* gs, const float* saved, float* gx, float parameter, long long n) { \
        EACH(i, n) {                                                                                                        \
            float g = gs[i], s = saved[i];                                                                                  \
            gx[i] = EXPRESSION;                                                                                             \
        }                                                                                                                   \
    }

#define UNUSED(value) ((void)parameter, value)

__device__ __forceinline__ float silu_slope(float x) {
    float s = sigmoid_of(x);
    return s * (1 + x * (1 - s));
}

VALUE(relu, UNUSED(activated(x, RELU)))
GRADIENT(relu_gradient, UNUSED(activation_slope(g, s, RELU)))

VALUE(leaky_relu, x > 0 ? x : parameter * x)
GRADIENT(leaky_relu_gradient, s > 0 ? g : parameter * g)

VALUE(elu, x > 0 ? x : parameter * expm1f(x))
GRADIENT(elu_gradient, s > 0 ? g : g * (parameter * expm1f(s) + parameter))

VALUE(silu, UNUSED(x * sigmoid_of(x)))
GRADIENT(silu_gradient, UNUSED(g * silu_slope(s)))

VALUE(tanh_value, UNUSED(tanhf(x)))
GRADIENT(tanh_gradient, UNUSED(activation_slope(g, s, TANH)))

VALUE(sigmoid, UNUSED(sigmoid_of(x)))
GRADIENT(sigmoid_gradient, UNUSED(activation_slope(g, s, SIGMOID)))

VALUE(softplus, UNUSED(softplus_of(x)))
GRADIENT(softplus_gradient, UNUSED(g * sigmoid_of(s)))
