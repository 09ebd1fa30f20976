#include "core/statistics/token_sampler.h"

#include <algorithm>
#include <utility>

#include "core/statistics/sketch_signs.h"

namespace salient {

TokenSampler::TokenSampler(const StatisticsParams& params)
    : capacity_(params.sample_tokens), in_features_(params.in_features), seed_(params.seed) {
  heap_.reserve(static_cast<size_t>(capacity_));
  values_.reserve(static_cast<size_t>(capacity_ * in_features_));
}

float* TokenSampler::Offer(int64_t calibration_row, int64_t position) {
  const TokenSample::Key key = {SampleHash(seed_, calibration_row, position), calibration_row,
                                position};
  int64_t index = static_cast<int64_t>(heap_.size());
  if (index < capacity_) {
    values_.resize(values_.size() + static_cast<size_t>(in_features_));
  } else {
    // The heap has its largest key on top, so a token is refused by one comparison, and one that is
    // taken gets the place of the one it replaces.
    if (capacity_ == 0 || heap_.front().key < key) return nullptr;
    std::pop_heap(heap_.begin(), heap_.end());
    index = heap_.back().index;
    heap_.pop_back();
  }
  heap_.push_back({key, index});
  std::push_heap(heap_.begin(), heap_.end());
  return values_.data() + index * in_features_;
}

TokenSample TokenSampler::Take() {
  // Sorted by key, the sample does not tell in which order tokens came.
  std::sort(heap_.begin(), heap_.end());
  TokenSample sample;
  sample.keys.reserve(heap_.size());
  sample.values.reserve(values_.size());
  for (const Slot& slot : heap_) {
    sample.keys.push_back(slot.key);
    const float* value = values_.data() + slot.index * in_features_;
    sample.values.insert(sample.values.end(), value, value + in_features_);
  }
  heap_.clear();
  values_.clear();
  return sample;
}

void TokenSampler::Restore(TokenSample sample) {
  heap_.clear();
  for (size_t i = 0; i < sample.keys.size(); ++i) {
    heap_.push_back({sample.keys[i], static_cast<int64_t>(i)});
  }
  std::make_heap(heap_.begin(), heap_.end());
  values_.assign(sample.values.begin(), sample.values.end());
}

TokenSample MergeSamples(const TokenSample& a, const TokenSample& b,
                         const StatisticsParams& params) {
  TokenSample merged;
  size_t i = 0;
  size_t j = 0;
  while (static_cast<int64_t>(merged.keys.size()) < params.sample_tokens) {
    // Both are sorted, so the smallest keys of both come first in a merge that stops when it is
    // full.
    const bool from_a = i < a.keys.size() && (j == b.keys.size() || a.keys[i] < b.keys[j]);
    if (!from_a && j == b.keys.size()) break;
    const TokenSample& source = from_a ? a : b;
    const size_t index = from_a ? i++ : j++;
    merged.keys.push_back(source.keys[index]);
    const float* value = source.values.data() + index * static_cast<size_t>(params.in_features);
    merged.values.insert(merged.values.end(), value, value + params.in_features);
  }
  return merged;
}

}  // namespace salient
