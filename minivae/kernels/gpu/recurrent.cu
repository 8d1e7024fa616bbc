// One step of a recurrent layer, forward or back: all that stands between the matrix product before it and the one after it.
//
//     a           (N, gates H)   x w + b of this step, one product for the whole sequence
//     from_state  (N, gates H)   h u of the step before
//     gates       (N, gates H)   side by side in a row: | r | z | n |  or  | i | f | n | o |,  H numbers each
//     h, recall   (N, H)
//
// One thread a unit: i of N H.  It reads and writes its own numbers of every gate and nobody else's, so a step may be done in place.
#include "common.cu"

#define EACH_UNIT(GATES)                     \
    EACH(i, n)                               \
    if (long long j = i % units; true)       \
        if (long long at = i / units * GATES * units + j; true)

// h' = z h + (1 - z) n,  n = tanh(a_n + r recall),  recall = (h u)_n + c
extern "C" __global__ void gru_step(const float* a, const float* from_state, const float* c, const float* h, float* gates, float* recall,
                                    float* next, long long n, long long units) {
    EACH_UNIT(3) {
        float r = sigmoid_of(a[at] + from_state[at]), z = sigmoid_of(a[at + units] + from_state[at + units]);
        float recalled = from_state[at + 2 * units] + c[j], candidate = tanhf(a[at + 2 * units] + r * recalled);
        gates[at] = r, gates[at + units] = z, gates[at + 2 * units] = candidate;
        recall[i] = recalled;
        next[i] = z * h[i] + (1 - z) * candidate;
    }
}

// gh, the gradient of h', is that of this step's output, plus what the step after sent: gh z straight on, in `carry`, and `product` through
// its h u.  carry is read and then written for the step before.  ga and gstate are the gradients of a and of h u.
extern "C" __global__ void gru_step_gradient(const float* g, const float* product, float* carry, const float* gates, const float* recall,
                                             const float* h, float* ga, float* gstate, long long n, long long units) {
    EACH_UNIT(3) {
        (void)j;
        float gh = carry[i] + (product ? product[i] : 0) + g[i];
        float r = gates[at], z = gates[at + units], candidate = gates[at + 2 * units];
        float gn = gh * (1 - z) * (1 - candidate * candidate);
        ga[at] = gstate[at] = gn * recall[i] * r * (1 - r);
        ga[at + units] = gstate[at + units] = gh * (h[i] - candidate) * z * (1 - z);
        ga[at + 2 * units] = gn;
        gstate[at + 2 * units] = gn * r;
        carry[i] = gh * z;
    }
}

// c' = f c + i n,  h' = o tanh c'
extern "C" __global__ void lstm_step(const float* a, const float* from_state, const float* c, float* gates, float* next_c, float* next_h,
                                     long long n, long long units) {
    EACH_UNIT(4) {
        (void)j;
        float in = sigmoid_of(a[at] + from_state[at]), forget = sigmoid_of(a[at + units] + from_state[at + units]);
        float candidate = tanhf(a[at + 2 * units] + from_state[at + 2 * units]);
        float out = sigmoid_of(a[at + 3 * units] + from_state[at + 3 * units]);
        gates[at] = in, gates[at + units] = forget, gates[at + 2 * units] = candidate, gates[at + 3 * units] = out;
        float cell = forget * c[i] + in * candidate;
        next_c[i] = cell;
        next_h[i] = out * tanhf(cell);
    }
}

// carry is the gradient of c', and on the way out that of c; the rest as above
extern "C" __global__ void lstm_step_gradient(const float* g, const float* product, float* carry, const float* gates, const float* c,
                                              const float* next_c, float* ga, long long n, long long units) {
    EACH_UNIT(4) {
        (void)j;
        float gh = g[i] + (product ? product[i] : 0), squashed = tanhf(next_c[i]);
        float in = gates[at], forget = gates[at + units], candidate = gates[at + 2 * units], out = gates[at + 3 * units];
        float gc = carry[i] + gh * out * (1 - squashed * squashed);
        ga[at] = gc * candidate * in * (1 - in);
        ga[at + units] = gc * c[i] * forget * (1 - forget);
        ga[at + 2 * units] = gc * in * (1 - candidate * candidate);
        ga[at + 3 * units] = gh * squashed * out * (1 - out);
        carry[i] = gc * forget;
    }
}
