// Writes what a job of quantizing or an estimate of one says to people and to machines.
#ifndef SALIENT_CLIENT_REPORT_JOB_H_
#define SALIENT_CLIENT_REPORT_JOB_H_

#include <string>

#include "absl/types/span.h"
#include "client/jobs/run.h"
#include "client/terminal/json_text.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// Returns the mean of loss / loss_rtn over the groups in which round-to-nearest loses something;
// NaN if none.
double MeanLossRatio(absl::Span<const v1::GroupReport> groups);

// Returns two columns and the notes of groups below, those that say the same together.
std::string QuantizeTable(const std::string& model, const std::string& output, double seconds,
                          const FinishedJob& outcome);

// Returns {job, output, parameters, bytes_in, bytes_out, seconds, peak_rss_bytes, linears,
// quantized_linears, mean_loss_ratio, estimate, warnings, groups} with the groups of ResultJson.
// `seconds` is wall time.
std::string QuantizeJson(const std::string& output, double seconds, const FinishedJob& outcome);

// Returns a table. `assumed`, unless it is empty, is a row on what the caller took for granted.
std::string EstimateTable(const std::string& model, const v1::Estimate& estimate,
                          const std::string& assumed);

// Returns {seconds, peak_rss_bytes, flop, output_bytes}; the second adds {warnings}.
std::string EstimateJson(const EstimatedJob& estimated);

// Returns "queued", "running", "succeeded", "failed" or "cancelled".
std::string StateText(v1::JobState state);

// Writes a line a job: name, state, task, age, what it is about.
std::string JobsTable(absl::Span<const v1::Job> jobs);

// Returns {job, state, task, revision, create_time, seconds, parameters, bytes_in, bytes_out,
// peak_rss_bytes, missing_bytes, files, error?}. Times are seconds since 1970.
JsonObject JobJson(const v1::Job& job);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_JOB_H_
