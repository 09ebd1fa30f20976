#include "core/evaluate/evaluate_heads.h"

#include <utility>

#include "absl/status/status.h"
#include "core/model/activations.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/parallel/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// Positions [first, first + count) of a row whose logits come slice by slice, of all models.
class PositionTile {
 public:
  PositionTile(absl::Span<const int64_t> row, int64_t first, int64_t count, size_t models)
      : first_(first), count_(count) {
    const auto tokens = row.subspan(static_cast<size_t>(first), static_cast<size_t>(count + 1));
    likelihoods_.assign(models, RowLikelihood(tokens));
    divergences_.assign(models - 1, RowDivergence(count));
  }

  absl::Status Add(int64_t first_id, const std::vector<Matrix>& logits) {
    for (size_t m = 0; m < logits.size(); ++m) {
      absl::Status status = likelihoods_[m].Add(first_id, View(logits[m]));
      if (!status.ok()) return status;
      if (m == 0) continue;
      status = divergences_[m - 1].Add(first_id, View(logits[0]), View(logits[m]));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Finish(std::vector<HeadScore>& total) const {
    for (size_t m = 0; m < likelihoods_.size(); ++m) {
      const absl::StatusOr<Likelihood> likelihood = likelihoods_[m].Finish();
      if (!likelihood.ok()) return likelihood.status();
      total[m].likelihood.Add(*likelihood);
      Divergence none;  // It is that of the first model from itself.
      none.tokens = none.agreements = count_;
      const absl::StatusOr<Divergence> divergence = m == 0 ? none : divergences_[m - 1].Finish();
      if (!divergence.ok()) return divergence.status();
      total[m].divergence.Add(*divergence);
    }
    return absl::OkStatus();
  }

 private:
  MatrixView View(const Matrix& logits) const {
    return {logits.Row(first_), count_, logits.cols(), logits.cols()};
  }

  int64_t first_;
  int64_t count_;
  std::vector<RowLikelihood> likelihoods_;
  std::vector<RowDivergence> divergences_;
};

class HeadScorer {
 public:
  HeadScorer(absl::Span<const RunModel> models, absl::Span<const std::vector<int64_t>> tokens,
             EvaluationObserver& observer, Executor& executor)
      : models_(models), tokens_(tokens), observer_(observer), executor_(executor) {}

  absl::StatusOr<std::vector<HeadScore>> Run() {
    std::vector<OutputHead> heads;
    for (const RunModel& model : models_) {
      absl::StatusOr<OutputHead> head = OutputHead::Open(*model.source, *model.model);
      if (!head.ok()) return head.status();
      heads.push_back(*std::move(head));
    }
    // Every slice of the heads is read once: together they may be larger than memory.
    std::vector<std::vector<PositionTile>> tiles;
    for (const std::vector<int64_t>& row : tokens_) {
      const RowTiles cut(static_cast<int64_t>(row.size()) - 1, kTokenTile);
      std::vector<PositionTile>& of_row = tiles.emplace_back();
      for (int64_t i = 0; i < cut.size(); ++i) {
        of_row.emplace_back(row, cut.First(i), cut.Count(i), heads.size());
      }
    }
    const int64_t slices = heads[0].SliceCount();
    for (int64_t slice = 0; slice < slices; ++slice) {
      std::vector<HeadSlice> parts;
      for (const OutputHead& head : heads) {
        absl::StatusOr<HeadSlice> part = head.Read(slice, executor_);
        if (!part.ok()) return part.status();
        parts.push_back(*std::move(part));
      }
      for (size_t r = 0; r < tokens_.size(); ++r) {
        if (absl::Status status = ScoreRow(r, heads, parts, tiles[r]); !status.ok()) return status;
        // A row has gone through the head when it has gone through all slices.
        const auto tokens = static_cast<int64_t>(tokens_[r].size());
        const int64_t done = tokens * (slice + 1) / slices - tokens * slice / slices;
        absl::Status status =
            observer_.TokensDone(models_[0].model->config.num_hidden_layers, done);
        if (!status.ok()) return status;
      }
    }
    std::vector<HeadScore> scores(models_.size());
    for (const std::vector<PositionTile>& of_row : tiles) {
      for (const PositionTile& tile : of_row) {
        if (absl::Status status = tile.Finish(scores); !status.ok()) return status;
      }
    }
    return scores;
  }

 private:
  // Adds the logits of one slice of the vocabulary. Exponentials cost more than the product that
  // gives their arguments when the model is small, so positions are spread over the executor too.
  absl::Status ScoreRow(size_t r, const std::vector<OutputHead>& heads,
                        const std::vector<HeadSlice>& parts, std::vector<PositionTile>& tiles) {
    std::vector<Matrix> logits;
    for (size_t m = 0; m < heads.size(); ++m) {
      const absl::StatusOr<Matrix> hidden = models_[m].leaving->ReadRow(static_cast<int64_t>(r));
      if (!hidden.ok()) return hidden.status();
      const absl::StatusOr<Matrix> normed = heads[m].Norm(*hidden, executor_);
      if (!normed.ok()) return normed.status();
      absl::StatusOr<Matrix> part = Logits(*normed, parts[m], executor_);
      if (!part.ok()) return part.status();
      logits.push_back(*std::move(part));
    }
    return executor_.ForEach(static_cast<int64_t>(tiles.size()), [&](int64_t i) {
      return tiles[static_cast<size_t>(i)].Add(parts[0].first_id, logits);
    });
  }

  absl::Span<const RunModel> models_;
  absl::Span<const std::vector<int64_t>> tokens_;
  EvaluationObserver& observer_;
  Executor& executor_;
};

}  // namespace

absl::StatusOr<std::vector<HeadScore>> ScoreHeads(absl::Span<const RunModel> models,
                                                  absl::Span<const std::vector<int64_t>> tokens,
                                                  EvaluationObserver& observer,
                                                  Executor& executor) {
  return HeadScorer(models, tokens, observer, executor).Run();
}

}  // namespace salient
