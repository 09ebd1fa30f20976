// Tells whether this is compiled with AddressSanitizer or ThreadSanitizer, under which arithmetic
// takes ten to thirty times as long. Tests that only measure how good a whole model's numbers are
// leave themselves out then: smaller ones run the same code.
#ifndef SALIENT_TESTS_SUPPORT_SANITIZER_H_
#define SALIENT_TESTS_SUPPORT_SANITIZER_H_

namespace salient::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kUnderSanitizer = true;
#else
inline constexpr bool kUnderSanitizer = false;
#endif

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_SANITIZER_H_
