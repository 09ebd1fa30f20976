#include "server/rpc/convert/engine.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/engines/engine.h"
#include "core/engines/engine_verdict.h"
#include "core/tensor/stored_format.h"
#include "core/text/utf8.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/rpc/convert/enums.h"

namespace salient {
namespace {

v1::WeightFormat ToProto(const StoredFormat& stored) {
  v1::WeightFormat message;
  message.set_bits(stored.format.bits);
  message.set_group_size(stored.format.group_size);
  message.set_symmetric(stored.format.symmetric);
  message.set_output_format(ToWire(kOutputFormats, stored.output));
  message.set_activations(ToWire(kActivationFormats, stored.activations));
  return message;
}

}  // namespace

absl::StatusOr<int64_t> ToTensorParallel(absl::string_view path, int32_t tensor_parallel) {
  if (tensor_parallel < 0 || tensor_parallel > kMaxTensorParallel) {
    return BadField(Reason::kBadJob, absl::StrCat(path, ".tensor_parallel"),
                    absl::StrCat(tensor_parallel),
                    absl::StrCat("1 to ", kMaxTensorParallel, " devices, or 0 for 1"));
  }
  return std::max<int64_t>(1, tensor_parallel);
}

absl::StatusOr<EngineRequest> ToEngineRequest(absl::string_view path,
                                              const google::protobuf::RepeatedField<int>& engines,
                                              int32_t tensor_parallel) {
  EngineRequest request;
  for (int i = 0; i < engines.size(); ++i) {
    const std::optional<Engine> engine = FromWire(kEngines, engines.Get(i));
    if (!engine.has_value()) {
      return BadField(Reason::kBadJob, absl::StrCat(path, ".engines[", i, "]"),
                      absl::StrCat(engines.Get(i)), "a value of Engine");
    }
    if (std::find(request.engines.begin(), request.engines.end(), *engine) ==
        request.engines.end()) {
      request.engines.push_back(*engine);
    }
  }
  const auto devices = ToTensorParallel(path, tensor_parallel);
  if (!devices.ok()) return devices.status();
  request.tensor_parallel = *devices;
  return request;
}

v1::Inspection ToProto(const Inspection& inspection) {
  v1::Inspection message;
  message.set_architecture(EscapeNonUtf8(inspection.architecture));
  message.set_quant_method(EscapeNonUtf8(inspection.quant_method));
  if (inspection.quantized_linears > 0) *message.mutable_format() = ToProto(inspection.stored);
  message.set_parameters(inspection.parameters);
  message.set_bytes(inspection.bytes);
  message.set_quantized_linears(inspection.quantized_linears);
  message.set_plain_linears(inspection.plain_linears);
  for (const FormatCount& count : inspection.formats) {
    v1::FormatCount& format = *message.add_formats();
    *format.mutable_format() = ToProto(
        StoredFormat{count.format, inspection.stored.output, inspection.stored.activations});
    format.set_linears(count.linears);
  }
  for (const EngineVerdict& verdict : inspection.engines) {
    v1::EngineVerdict& engine = *message.add_engines();
    engine.set_engine(ToWire(kEngines, verdict.engine));
    engine.set_loads(verdict.loads());
    engine.set_version(std::string(EngineVersion(verdict.engine)));
    for (const auto* reasons : {&verdict.faults, &verdict.remarks}) {
      for (const std::string& reason : *reasons) engine.add_reasons(EscapeNonUtf8(reason));
    }
  }
  return message;
}

}  // namespace salient
