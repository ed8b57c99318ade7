-- cq_attempts as somebody writes it who knows DuckDB and owns the Parquet files: the same rows.
WITH event AS (
  SELECT
    *,
    CASE WHEN failure_reason IS NOT NULL THEN struct_pack(
      total := len(failure_reason.failed_try_jobs),
      infra := len(list_filter(failure_reason.failed_try_jobs, lambda job: job.fail_type = 'FAIL_TYPE_INFRA')),
      compile := len(list_filter(failure_reason.failed_try_jobs, lambda job: job.fail_type = 'FAIL_TYPE_COMPILE')),
      patch := len(list_filter(failure_reason.failed_try_jobs, lambda job: job.fail_type = 'FAIL_TYPE_PATCH')),
      test := len(list_filter(failure_reason.failed_try_jobs, lambda job: job.fail_type = 'FAIL_TYPE_TEST')),
      invalid := len(list_filter(failure_reason.failed_try_jobs, lambda job: job.fail_type = 'FAIL_TYPE_INVALID')),
      fail_type := failure_reason.fail_type
    ) END AS failure
  FROM read_parquet($files)
  WHERE timestamp_millis IS NOT NULL AND attempt_start_usec >= $low AND attempt_start_usec < $high
),
attempt AS (
  SELECT
    attempt_start_usec, cq_name, issue, patchset,
    min(timestamp_millis) FILTER (WHERE action = 'PATCH_START') AS first_start_msec,
    max(timestamp_millis) FILTER (WHERE action = 'PATCH_START') AS last_start_msec,
    min(timestamp_millis) FILTER (WHERE action = 'PATCH_STOP') AS first_stop_msec,
    max(timestamp_millis) FILTER (WHERE action = 'PATCH_STOP') AS last_stop_msec,
    min(timestamp_millis) FILTER (WHERE action = 'PATCH_COMMITTING') AS committing_msec,
    min(timestamp_millis) FILTER (WHERE action = 'PATCH_COMMITTED') AS committed_msec,
    min(timestamp_millis) FILTER (WHERE action = 'PATCH_FAILED') AS failed_msec,
    min(timestamp_millis) FILTER (WHERE action = 'VERIFIER_TRIGGER') AS trigger_msec,
    min(timestamp_millis) FILTER (WHERE action = 'VERIFIER_PASS') AS pass_msec,
    count(*) FILTER (WHERE action = 'PATCH_THROTTLED') > 0 AS was_throttled,
    count(*) FILTER (WHERE action = 'PATCH_TREE_CLOSED') > 0 AS waited_for_tree,
    count(*) FILTER (WHERE action = 'VERIFIER_NOTRY') > 0 AS no_tryjobs_launched,
    count(*) FILTER (WHERE action = 'VERIFIER_CUSTOM_TRYBOTS') > 0 AS custom_trybots,
    coalesce(bool_or(dry_run), false) AS dry_run,
    coalesce(bool_or(dry_run) AND NOT bool_and(dry_run), false) AS is_contradictory,
    arg_max(failure, (timestamp_millis, failure)) FILTER (WHERE failure IS NOT NULL) AS failure,
    list(contributing_buildbucket_ids) FILTER (WHERE len(contributing_buildbucket_ids) > 0) AS ids,
    max(nullif(earliest_equivalent_patchset, '')) AS earliest_equivalent_patchset,
    max(nullif(attempt_key, '')) AS attempt_key
  FROM event
  GROUP BY ALL
)
SELECT
  attempt_start_usec / 1000 AS attempt_start_msec,
  first_start_msec,
  last_start_msec,
  first_stop_msec,
  last_stop_msec,
  committed_msec IS NOT NULL AS committed,
  was_throttled,
  waited_for_tree,
  dry_run,
  no_tryjobs_launched,
  custom_trybots,
  failed_msec IS NOT NULL AS failed,
  cq_name,
  issue,
  patchset,
  failure.fail_type AS fail_type,
  coalesce(failure.infra, 0) AS infra_failures,
  coalesce(failure.compile, 0) AS compile_failures,
  coalesce(failure.patch, 0) AS patch_failures,
  coalesce(failure.test, 0) AS test_failures,
  coalesce(failure.invalid, 0) AS invalid_test_results_failures,
  coalesce(failure.total, 0) AS total_failures,
  (first_start_msec * 1e3 - attempt_start_usec) / 1e6 AS cq_pickup_latency_sec,
  (trigger_msec * 1e3 - attempt_start_usec) / 1e6 AS cq_launch_latency_sec,
  (pass_msec * 1e3 - attempt_start_usec) / 1e6 AS verifier_pass_latency_sec,
  (committing_msec - pass_msec) / 1000 AS tree_check_and_throttle_latency_sec,
  (committed_msec - committing_msec) / 1000 AS vcs_commit_latency_sec,
  (failed_msec * 1e3 - attempt_start_usec) / 1e6 AS click_to_failure_sec,
  (committed_msec * 1e3 - attempt_start_usec) / 1e6 AS click_to_patch_committed_sec,
  (last_stop_msec * 1e3 - attempt_start_usec) / 1e6 AS click_to_result_sec,
  coalesce(list_sort(list_distinct(flatten(ids))), []) AS contributing_bbucket_ids,
  earliest_equivalent_patchset,
  attempt_key
FROM attempt
WHERE first_start_msec IS NOT NULL AND last_stop_msec IS NOT NULL AND NOT is_contradictory
