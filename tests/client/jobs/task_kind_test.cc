#include "client/jobs/task_kind.h"

#include <gtest/gtest.h>

namespace salient::client {
namespace {

TEST(TaskKindTest, ATaskIsLookedForInWhatTheServerDoes) {
  v1::GetServerInfoResponse info;
  info.add_task_kinds(v1::TASK_KIND_QUANTIZE);
  info.add_task_kinds(v1::TASK_KIND_INSPECT);
  EXPECT_TRUE(CheckServerDoes(info, v1::TASK_KIND_QUANTIZE).ok());
  EXPECT_TRUE(CheckServerDoes(info, v1::TASK_KIND_INSPECT).ok());
  const absl::Status study = CheckServerDoes(info, v1::TASK_KIND_STUDY);
  EXPECT_EQ(study.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(study.message(), "this server does not study; what it does is quantize, inspect");
}

TEST(TaskKindTest, WhatANewerServerDoesHasANumber) {
  EXPECT_EQ(TaskKindText(v1::TASK_KIND_EVALUATE), "evaluate");
  EXPECT_EQ(TaskKindText(static_cast<v1::TaskKind>(99)), "task 99");
}

}  // namespace
}  // namespace salient::client
