#include "server/jobs/prepared_model.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/f64_source.h"
#include "core/checkpoint/model_directory.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/safetensors.h"
#include "core/source/quantized_source.h"
#include "core/tensor/non_finite.h"
#include "server/error/call_error.h"
#include "server/jobs/root_path.h"

namespace salient {
namespace {

constexpr char kModelRootFlag[] = "--model-root";

// Files may be links, as caches of downloaded models have them, but not out of the root.
absl::Status CheckLinks(const std::string& root, const PreparedModel& model) {
  const absl::StatusOr<std::vector<DirectoryFile>> files = ListModelDirectory(model.path);
  if (!files.ok()) return files.status();
  for (const DirectoryFile& file : *files) {
    if (file.role == FileRole::kLeftBehind || file.role == FileRole::kOtherWeights) continue;
    if (!IsBelowRoot(root, absl::StrCat(model.path, "/", file.name))) {
      return InvalidCall(Reason::kBadPath, absl::StrCat(file.name, ": is a link that leads out of ",
                                                        kModelRootFlag, "; expected it below"));
    }
  }
  return absl::OkStatus();
}

// Names the method of weights instead of their types where neither is read.
absl::Status NamingTheMethod(const PreparedModel& model, const absl::Status& status) {
  const std::optional<QuantizationConfig>& quantization = model.config().quantization;
  const bool unread = quantization.has_value() && !quantization->readable.ok();
  return absl::IsInvalidArgument(status) && unread ? quantization->readable : status;
}

// Returns whether all headers are inline, or in blobs that are known to have their digest.
bool AreTold(const std::vector<ModelFile>& weights, const BlobStore& store) {
  return std::all_of(weights.begin(), weights.end(), [&store](const ModelFile& file) {
    return file.inline_content.has_value() || store.IsVerified(file.digest);
  });
}

int64_t Elements(const std::vector<TensorSpec>& tensors) {
  int64_t sum = 0;
  for (const TensorSpec& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    sum += elements;
  }
  return sum;
}

}  // namespace

absl::StatusOr<PreparedModel> PrepareModel(absl::string_view field, const ModelSource& source,
                                           const std::string& model_root, BlobStore& store) {
  PreparedModel model;
  if (source.path.empty()) {
    absl::StatusOr<ModelManifest> manifest = ReadManifest(field, source.files, store);
    if (!manifest.ok()) return WithModelReason(manifest.status());
    model.manifest = *std::move(manifest);
    return model;
  }
  absl::StatusOr<std::string> path = ResolveModelPath(kModelRootFlag, model_root, source.path);
  if (!path.ok()) return WithField(path.status(), absl::StrCat(field, ".path"));
  model.path = *std::move(path);
  absl::Status good = CheckLinks(model_root, model);
  if (good.ok()) good = CheckIsModelDirectory(model.path);
  if (!good.ok()) return WithField(WithModelReason(good), absl::StrCat(field, ".path"));
  absl::StatusOr<ModelStamps> stamps = ModelStamps::Of(model.path);
  if (!stamps.ok())
    return WithField(WithModelReason(stamps.status()), absl::StrCat(field, ".path"));
  model.stamps = *std::move(stamps);
  const std::string config_path = absl::StrCat(model.path, "/", kConfigName);
  absl::StatusOr<std::string> text = ReadTextFile(config_path, kMaxConfigBytes);
  if (!text.ok()) return WithField(WithModelReason(text.status()), absl::StrCat(field, ".path"));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(config_path, *text);
  if (!config.ok())
    return WithField(WithModelReason(config.status()), absl::StrCat(field, ".path"));
  model.manifest.config_json = *std::move(text);
  absl::StatusOr<Model> planned = PlanModel(*config);
  if (!planned.ok())
    return WithField(WithModelReason(planned.status()), absl::StrCat(field, ".path"));
  model.manifest.model = *std::move(planned);
  return model;
}

absl::Status SettleHead(const TensorSource& source, HeadComparison comparison,
                        PreparedModel& model) {
  const absl::StatusOr<bool> own = HasOwnHead(source, model.model(), comparison);
  if (!own.ok()) return own.status();
  if (*own) model.manifest.model.config.own_head = true;
  return absl::OkStatus();
}

absl::Status SampleHead(const TensorSource& source, PreparedModel& model) {
  if (!source.IsHere(model.model().embeddings) || !source.IsHere(model.model().head)) {
    return absl::OkStatus();
  }
  return SettleHead(source, HeadComparison::kSample, model);
}

std::string OwnHeadWarning(const ModelConfig& config) {
  return absl::StrCat(config.source,
                      ": tie_word_embeddings is true, but lm_head.weight differs from "
                      "the embeddings, so it is kept and a result says false");
}

absl::Status CheckPreparedModel(PreparedModel& model, bool may_be_quantized, BlobStore& store) {
  if (!may_be_quantized) {
    if (absl::Status status = CheckNotQuantized(model.config()); !status.ok()) return status;
  }
  const absl::StatusOr<OpenModel> open = OpenModelFiles(model, store, /*arrival=*/nullptr);
  if (!open.ok()) return open.status();
  if (!open->headers_known) return absl::OkStatus();
  if (absl::Status status = SampleHead(*open->source, model); !status.ok()) return status;
  if (!may_be_quantized) return CheckModelTensors(*open->source, model.model());
  const absl::StatusOr<std::unique_ptr<TensorSource>> plain =
      OpenQuantizedSource(*open->source, model.model());
  if (!plain.ok()) return plain.status();
  return CheckModelTensors(**plain, model.model());
}

absl::Status CheckCarriedFiles(const PreparedModel& model) {
  if (model.path.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<DirectoryFile>> files = ListModelDirectory(model.path);
  if (!files.ok()) return files.status();
  for (const DirectoryFile& file : *files) {
    if (file.role != FileRole::kCarried) continue;
    const std::string path = absl::StrCat(model.path, "/", file.name);
    if (faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0) continue;
    return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> LeftBehind(const PreparedModel& model) {
  if (model.path.empty()) return std::string();
  const absl::StatusOr<std::vector<DirectoryFile>> files = ListModelDirectory(model.path);
  if (!files.ok()) return files.status();
  return DescribeLeftBehind(*files);
}

absl::StatusOr<std::optional<PlainDTypes>> FindPlainDTypes(const PreparedModel& model,
                                                           BlobStore& store) {
  const absl::StatusOr<OpenModel> open = OpenModelFiles(model, store, /*arrival=*/nullptr);
  if (!open.ok()) return open.status();
  if (!open->headers_known) return std::nullopt;
  return PlainDTypesOf(*open->source, model.model());
}

absl::StatusOr<OpenModel> OpenModelFiles(const PreparedModel& model, BlobStore& store,
                                         BlobArrival* arrival) {
  OpenModel open;
  if (!model.path.empty()) {
    absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(model.path);
    if (!checkpoint.ok()) return WithModelReason(NamingTheMethod(model, checkpoint.status()));
    for (const SafetensorsFile& file : checkpoint->files()) {
      for (const TensorEntry& entry : file.header().tensors())
        open.tensor_bytes += entry.SizeBytes();
    }
    open.headers_known = true;
    open.tensor_names = checkpoint->TensorNames();
    open.source =
        std::make_unique<F64AsF32Source>(std::make_unique<Checkpoint>(*std::move(checkpoint)));
    return open;
  }
  auto arriving = std::make_unique<ArrivingCheckpoint>(model.manifest, store, arrival);
  if (arrival == nullptr) {
    const absl::StatusOr<bool> all = arriving->ReadHeaders();
    // What was not verified may be another's doing, or the disk's: the job will judge that.
    if (!all.ok() && (absl::IsDataLoss(all.status()) || AreTold(model.manifest.weights, store))) {
      return WithModelReason(NamingTheMethod(model, all.status()));
    }
    open.headers_known = all.value_or(false);
    if (open.headers_known) {
      open.tensor_bytes = arriving->TensorBytes();
      open.tensor_names = arriving->TensorNames();
    }
  }
  open.arriving = arriving.get();
  open.source = std::make_unique<F64AsF32Source>(std::move(arriving));
  return open;
}

absl::StatusOr<OpenModel> OpenWholeModel(PreparedModel& model, BlobStore& store,
                                         BlobArrival& arrival) {
  absl::StatusOr<OpenModel> open = OpenModelFiles(model, store, &arrival);
  if (!open.ok()) return open;
  if (open->arriving != nullptr) {
    absl::Status status = open->arriving->WaitForHeaders();
    if (status.ok()) status = open->arriving->CheckInlineContent();
    if (!status.ok()) return status;
    open->headers_known = true;
    open->tensor_bytes = open->arriving->TensorBytes();
    open->tensor_names = open->arriving->TensorNames();
  }
  absl::Status settled = SettleHead(*open->source, HeadComparison::kWhole, model);
  if (!settled.ok()) return WithModelReason(settled);
  return open;
}

int64_t CountParameters(const Model& model) {
  int64_t parameters = Elements(OuterTensors(model));
  for (const BlockPlan& block : model.blocks) parameters += Elements(BlockTensors(block));
  return parameters;
}

absl::Status WithModelReason(absl::Status status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kOutOfRange: {
      if (DetailsOf(status).reason != Reason::kInternal) return status;
      if (IsNonFinite(status)) return InvalidCall(Reason::kNonFinite, status.message());
      return InvalidCall(Reason::kBadModel, status.message());
    }
    case absl::StatusCode::kUnimplemented:
      return WithReason(status, Reason::kUnsupported);
    case absl::StatusCode::kDataLoss:
      return WithReason(status, Reason::kBlobDamaged);
    case absl::StatusCode::kResourceExhausted:
      return WithReason(status, Reason::kSpoolFull);
    default:
      return status;
  }
}

}  // namespace salient
