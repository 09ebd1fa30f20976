// Says what a quantize job does with what the core has to say.
#ifndef SALIENT_SERVER_JOBS_QUANTIZE_SINK_H_
#define SALIENT_SERVER_JOBS_QUANTIZE_SINK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/tensor_source.h"
#include "core/group/quantize_group.h"
#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/result/plain_dtypes.h"
#include "core/result/raised_group.h"
#include "core/tensor/named_tensor.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/jobs/job_output.h"
#include "server/jobs/running_job.h"

namespace salient {

// Writes tensors on the thread for that while workers compute, waits for the bytes of the next
// block, tells observers. Borrows all it is given.
class QuantizeSink final : public QuantizedModelSink {
 public:
  // `arriving` may be null; else it is what `source` reads.
  QuantizeSink(RunningJob& job, ComputeDType compute, const PlainDTypes& dtypes,
               const TensorSource& source, const ArrivingCheckpoint* arriving, JobOutput& output);

  absl::Status TensorsDone(int64_t block, size_t output, std::vector<NamedTensor> tensors) override;
  absl::Status BlockDone(int64_t block) override;
  bool IsOut(int64_t /*block*/) const override { return writing_ == nullptr; }
  // What is told of a block comes after the tensors of the block before.
  absl::Status GroupDone(size_t output, const GroupReport& report) override;
  // Warns of nothing, because KeptWarnings told of it before the job ran.
  absl::Status Kept(size_t output, const std::string& module, const std::string& why) override;
  absl::Status Raised(const RaisedGroup& group) override;
  // Warns when they near what F16 holds, and again when they pass it.
  absl::Status RangeGrew(const ActivationRange& range) override;
  absl::Status AllZero(const std::vector<std::string>& tensors) override;
  absl::Status TokensDone(int64_t block, int64_t tokens) override;

  // Waits until what was handed over last is out.
  absl::Status WaitForWriting();
  // Waits on this thread, so that no worker waits when the block is read.
  absl::Status WaitForBlock(int64_t block) const;

  // Reads the tensors outside the blocks that are here and were not read before: what cannot be
  // written costs no work on more blocks. Warns of rows that are kept though no result can hold
  // them. Its errors are those of CopyOuterTensors and ReadHighestTokenId.
  absl::Status CheckOuterTensors();

  // Returns what ReadHighestTokenId says, which is asked once.
  absl::StatusOr<int64_t> HighestTokenId();

  const std::vector<RaisedGroup>& raised() const { return raised_; }
  const ActivationRange& range() const { return range_; }

 private:
  bool IsHere(int64_t block) const;
  absl::Status Write(size_t output, std::vector<NamedTensor> tensors);
  void Warn(size_t output, const std::string& text);

  RunningJob& job_;
  const Model& model_;
  const std::string numerics_id_;
  const PlainDTypes dtypes_;
  const TensorSource& source_;
  const ArrivingCheckpoint* const arriving_;
  JobOutput& output_;
  ActivationRange range_;
  std::vector<RaisedGroup> raised_;
  std::optional<absl::StatusOr<int64_t>> highest_token_id_;
  std::set<std::string> checked_;        // They lie outside the blocks.
  std::set<std::string> warned_;         // Groups warned of these.
  std::unique_ptr<Background> writing_;  // It stands last, because it uses what is above.
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_QUANTIZE_SINK_H_
