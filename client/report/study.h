// Says what salient channels are worth, for people and for machines.
#ifndef SALIENT_CLIENT_REPORT_STUDY_H_
#define SALIENT_CLIENT_REPORT_STUDY_H_

#include <string>

#include "salient/v1/job.pb.h"

namespace salient::client {

// Writes a line a choice of channels, the source first: perplexity, KL and top-1 agreement against
// it, mean relative error of the groups' outputs on the calibration tokens.
std::string StudyTable(const v1::StudyTask& task, const v1::Study& study);

// {job, source: {perplexity}, none, weight, random, activation: {perplexity, kl, top1_agreement,
// relative_error}, salient_share, bits, group_size, symmetric, tokens, seconds}. `none` is plain
// round-to-nearest.
std::string StudyJson(double seconds, const v1::Job& job);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_STUDY_H_
