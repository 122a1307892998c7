/* On these processors ring signs with tables of 170 KB, which no packer makes smaller. OPENSSL_SMALL, its own switch
   (cross/build), gives them the code that all other processors have; its callers still ask for two functions of the fast
   one, which the plain ones stand in for. RING is what ring puts before its names. */

#include <stdint.h>

#define JOIN(a, b) a##b
#define NAME(prefix, name) JOIN(prefix, name)
#define RINGS(name) NAME(RING, name)

void RINGS(p256_point_mul_base)(uint64_t *point, const uint64_t *scalar);

/* For numbers that are no secret; it may take as long as for one that is. */
void RINGS(p256_point_mul_base_vartime)(uint64_t *point, const uint64_t *scalar)
{
    RINGS(p256_point_mul_base)(point, scalar);
}

#ifdef __x86_64__
void RINGS(x25519_scalar_mult_generic_masked)(uint8_t *out, const uint8_t *scalar, const uint8_t *point);

void RINGS(x25519_scalar_mult_adx)(uint8_t *out, const uint8_t *scalar, const uint8_t *point)
{
    RINGS(x25519_scalar_mult_generic_masked)(out, scalar, point);
}
#endif
