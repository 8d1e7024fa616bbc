// Philox4x32-10 (Salmon et al. 2011): block number c of a stream is four words, a pure function of (key, c).
//
// A draw of n words takes blocks = ceil(n / 4) blocks and lays their words out plane by plane, as minivae.random.Stream does:
//
//     position    0 ... blocks-1 | blocks ... 2 blocks-1 | ...           word p of the draw is word p / blocks
//     is word     0 of each      | 1 of each             | ...           of block counter + p % blocks
//
// Where a captured step asks for it, the counter goes on from step[0] in device memory, and the key from step[3]: see tally.cu.
#include "common.cu"

struct Words {
    unsigned int w[4];
};

__device__ __forceinline__ Words philox(unsigned long long key, unsigned long long counter) {
    unsigned int c0 = (unsigned int)counter, c1 = (unsigned int)(counter >> 32), c2 = 0, c3 = 0;
    unsigned int k0 = (unsigned int)key, k1 = (unsigned int)(key >> 32);
    for (int round = 0; round < 10; ++round) {
        unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = (unsigned int)(p1 >> 32) ^ c1 ^ k0;
        c2 = (unsigned int)(p0 >> 32) ^ c3 ^ k1;
        c1 = (unsigned int)p1;
        c3 = (unsigned int)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// key and counter as they are now
__device__ __forceinline__ void look(const unsigned long long* step, unsigned long long& key, unsigned long long& counter) {
    if (!step) return;
    counter += step[0];
    key += step[3];
}

__device__ __forceinline__ float uniform_of(unsigned int word) { return (float)(word >> 8) * 5.9604644775390625e-8f; }  // 2^-24

__device__ __forceinline__ float uniform_at(unsigned long long key, unsigned long long counter, long long position, long long blocks) {
    return uniform_of(philox(key, counter + position % blocks).w[position / blocks]);
}

// Box and Muller: the pair (u, v) of uniforms -> sqrt(-2 log(1 - u)) (cos, sin)(2 pi v)
struct Normals {
    float cosine, sine;
};

__device__ __forceinline__ Normals normal_pair(unsigned long long key, unsigned long long counter, long long pair, long long pairs) {
    long long blocks = (2 * pairs + 3) / 4;
    float radius = sqrtf(-2 * log1pf(-uniform_at(key, counter, pair, blocks)));  // 1 - u is in (0, 1]: never log 0
    float angle = 6.28318530717958648f * uniform_at(key, counter, pairs + pair, blocks);
    return {radius * cosf(angle), radius * sinf(angle)};
}

// one thread a block: four words, in four planes
extern "C" __global__ void random_words(const unsigned long long* step, unsigned long long key, unsigned long long counter,
                                        unsigned int* words, long long n) {
    long long blocks = (n + 3) / 4;
    look(step, key, counter);
    EACH(block, blocks) {
        Words drawn = philox(key, counter + block);
        for (int plane = 0; plane < 4; ++plane)
            if (plane * blocks + block < n) words[plane * blocks + block] = drawn.w[plane];
    }
}

extern "C" __global__ void random_uniform(const unsigned long long* step, unsigned long long key, unsigned long long counter,
                                          float* uniforms, long long n) {
    long long blocks = (n + 3) / 4;
    look(step, key, counter);
    EACH(block, blocks) {
        Words drawn = philox(key, counter + block);
        for (int plane = 0; plane < 4; ++plane)
            if (plane * blocks + block < n) uniforms[plane * blocks + block] = uniform_of(drawn.w[plane]);
    }
}

// one thread a pair: cosines fill the first half of the draw, sines the second
extern "C" __global__ void random_normal(const unsigned long long* step, unsigned long long key, unsigned long long counter,
                                         float* normals, long long n) {
    long long pairs = (n + 1) / 2;
    look(step, key, counter);
    EACH(pair, pairs) {
        Normals drawn = normal_pair(key, counter, pair, pairs);
        normals[pair] = drawn.cosine;
        if (pairs + pair < n) normals[pairs + pair] = drawn.sine;
    }
}
