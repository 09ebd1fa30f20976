// Good specs of jobs, to be changed by tests.
#ifndef SALIENT_TESTS_SERVER_RPC_CONVERT_JOB_SPEC_MESSAGES_H_
#define SALIENT_TESTS_SERVER_RPC_CONVERT_JOB_SPEC_MESSAGES_H_

#include <cstdint>
#include <string>

#include "salient/v1/job.pb.h"

namespace salient::testing {

inline v1::Digest SomeDigest(int64_t size_bytes = 7) {
  v1::Digest digest;
  digest.set_sha256(std::string(64, 'a'));
  digest.set_size_bytes(size_bytes);
  return digest;
}

inline v1::ModelFile& AddFile(v1::JobSpec& spec, const std::string& name) {
  v1::ModelFile& file = *spec.mutable_model()->mutable_manifest()->add_files();
  file.set_name(name);
  *file.mutable_digest() = SomeDigest();
  return file;
}

inline v1::JobSpec QuantizeSpec() {
  v1::JobSpec spec;
  AddFile(spec, "config.json").set_inline_content("{}");
  AddFile(spec, "model.safetensors");
  v1::QuantizeTask& task = *spec.mutable_quantize();
  *task.mutable_calibration()->mutable_tokens()->mutable_tokens() = SomeDigest(9);
  task.add_formats();
  return spec;
}

inline v1::JobSpec EvaluateSpec() {
  v1::JobSpec spec;
  spec.mutable_model()->set_path("model-awq");
  *spec.mutable_evaluate()->mutable_tokens()->mutable_tokens() = SomeDigest(9);
  spec.mutable_evaluate()->mutable_reference()->set_path("model");
  return spec;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_RPC_CONVERT_JOB_SPEC_MESSAGES_H_
