-- One row for each complete attempt that starts in the slot, whenever its events came, with the
-- word of its builds on why it failed.
--
-- Nothing here depends on the order of the events, nor on how often one of them came: each
-- aggregate gives the same either way, and where the latest event counts, ties are settled by
-- what the events say. The condition on attempt_start_usec stands in each part, so that each reads
-- no other columns than it needs, of no other attempts.
WITH
  attempt AS (
    SELECT
      attempt_start_usec, cq_name, issue, patchset,
      attempt_start_usec / 1000 AS attempt_start_msec,
      MIN(IF(action = 'PATCH_START', timestamp_millis, NULL)) AS first_start_msec,
      MAX(IF(action = 'PATCH_START', timestamp_millis, NULL)) AS last_start_msec,
      MIN(IF(action = 'PATCH_STOP', timestamp_millis, NULL)) AS first_stop_msec,
      MAX(IF(action = 'PATCH_STOP', timestamp_millis, NULL)) AS last_stop_msec,
      MIN(IF(action = 'PATCH_COMMITTING', timestamp_millis, NULL)) AS committing_msec,
      MIN(IF(action = 'PATCH_COMMITTED', timestamp_millis, NULL)) AS committed_msec,
      MIN(IF(action = 'PATCH_FAILED', timestamp_millis, NULL)) AS failed_msec,
      MIN(IF(action = 'VERIFIER_TRIGGER', timestamp_millis, NULL)) AS trigger_msec,
      MIN(IF(action = 'VERIFIER_PASS', timestamp_millis, NULL)) AS pass_msec,
      COUNTIF(action = 'PATCH_THROTTLED') > 0 AS was_throttled,
      COUNTIF(action = 'PATCH_TREE_CLOSED') > 0 AS waited_for_tree,
      COUNTIF(action = 'VERIFIER_NOTRY') > 0 AS no_tryjobs_launched,
      COUNTIF(action = 'VERIFIER_CUSTOM_TRYBOTS') > 0 AS custom_trybots,
      COUNTIF(dry_run) > 0 AS dry_run,
      COUNTIF(dry_run) > 0 AND COUNTIF(NOT dry_run) > 0 AS is_contradictory,
      MAX(NULLIF(earliest_equivalent_patchset, '')) AS earliest_equivalent_patchset,
      MAX(NULLIF(attempt_key, '')) AS attempt_key
    FROM cq.raw_events
    WHERE attempt_start_usec >= UNIX_MICROS(@slot_start)
      AND attempt_start_usec < UNIX_MICROS(@slot_end)
      AND timestamp_millis IS NOT NULL
    GROUP BY attempt_start_usec, cq_name, issue, patchset
  ),
  -- The builds that its events rely on, each once.
  attempt_builds AS (
    SELECT
      attempt_start_usec, cq_name, issue, patchset,
      ARRAY_AGG(DISTINCT build_id ORDER BY build_id) AS ids
    FROM cq.raw_events, UNNEST(contributing_buildbucket_ids) AS build_id
    WHERE attempt_start_usec >= UNIX_MICROS(@slot_start)
      AND attempt_start_usec < UNIX_MICROS(@slot_end)
      AND timestamp_millis IS NOT NULL
    GROUP BY attempt_start_usec, cq_name, issue, patchset
  ),
  -- What the latest event with a failure reason says; of several in one millisecond, the one
  -- that lists the most builds counts.
  failure AS (
    SELECT attempt_start_usec, cq_name, issue, patchset, failure_reason.fail_type AS fail_type, job
    FROM (
      SELECT
        attempt_start_usec, cq_name, issue, patchset, timestamp_millis, failure_reason,
        (
          SELECT AS STRUCT
            COUNT(*) AS total,
            COUNTIF(tried.fail_type = 'FAIL_TYPE_INFRA') AS infra,
            COUNTIF(tried.fail_type = 'FAIL_TYPE_COMPILE') AS compile,
            COUNTIF(tried.fail_type = 'FAIL_TYPE_PATCH') AS patch,
            COUNTIF(tried.fail_type = 'FAIL_TYPE_TEST') AS test,
            COUNTIF(tried.fail_type = 'FAIL_TYPE_INVALID') AS invalid
          FROM UNNEST(failure_reason.failed_try_jobs) AS tried
        ) AS job
      FROM cq.raw_events
      WHERE attempt_start_usec >= UNIX_MICROS(@slot_start)
        AND attempt_start_usec < UNIX_MICROS(@slot_end)
        AND timestamp_millis IS NOT NULL
        AND failure_reason IS NOT NULL
    )
    WHERE TRUE
    QUALIFY 1 = ROW_NUMBER() OVER (
      PARTITION BY attempt_start_usec, cq_name, issue, patchset
      ORDER BY timestamp_millis DESC, job.total DESC, job.infra DESC, job.compile DESC,
        job.patch DESC, job.test DESC, job.invalid DESC, failure_reason.fail_type DESC
    )
  ),
  -- Each build as it was last.
  build AS (
    SELECT
      id,
      builder = 'chromium_presubmit' AND status = 'FAILURE' AS is_failed_presubmit,
      IFNULL(status, '') != 'SUCCESS' AS is_unsuccessful
    FROM cq.builds
    WHERE id IS NOT NULL
    QUALIFY 1 = ROW_NUMBER() OVER (
      PARTITION BY id ORDER BY update_usec DESC, status DESC, builder DESC
    )
  ),
  -- Of each attempt, whether the presubmit builder was all that failed. A build that several
  -- attempts rely on speaks for each of them.
  verdict AS (
    SELECT
      attempt_start_usec, cq_name, issue, patchset,
      COUNTIF(build.is_failed_presubmit) > 0
        AND COUNTIF(build.is_unsuccessful) = COUNTIF(build.is_failed_presubmit)
        AS is_presubmit_alone
    FROM attempt_builds AS b
    CROSS JOIN UNNEST(b.ids) AS build_id
    JOIN build ON build.id = build_id
    GROUP BY attempt_start_usec, cq_name, issue, patchset
  )
SELECT
  a.attempt_start_msec,
  a.first_start_msec,
  a.last_start_msec,
  a.first_stop_msec,
  a.last_stop_msec,
  a.committed_msec IS NOT NULL AS committed,
  a.was_throttled,
  a.waited_for_tree,
  a.dry_run,
  a.no_tryjobs_launched,
  a.custom_trybots,
  a.failed_msec IS NOT NULL AS failed,
  a.cq_name,
  a.issue,
  a.patchset,
  IF(f.fail_type = 'FAILED_JOBS' AND v.is_presubmit_alone, 'FAILED_PRESUBMIT_BOT', f.fail_type)
    AS fail_type,
  IFNULL(f.job.infra, 0) AS infra_failures,
  IFNULL(f.job.compile, 0) AS compile_failures,
  IFNULL(f.job.patch, 0) AS patch_failures,
  IFNULL(f.job.test, 0) AS test_failures,
  IFNULL(f.job.invalid, 0) AS invalid_test_results_failures,
  IFNULL(f.job.total, 0) AS total_failures,
  (a.first_start_msec * 1e3 - a.attempt_start_usec) / 1e6 AS cq_pickup_latency_sec,
  (a.trigger_msec * 1e3 - a.attempt_start_usec) / 1e6 AS cq_launch_latency_sec,
  (a.pass_msec * 1e3 - a.attempt_start_usec) / 1e6 AS verifier_pass_latency_sec,
  (a.committing_msec - CAST(a.pass_msec AS FLOAT64)) / 1000 AS tree_check_and_throttle_latency_sec,
  (a.committed_msec - CAST(a.committing_msec AS FLOAT64)) / 1000 AS vcs_commit_latency_sec,
  (a.failed_msec * 1e3 - a.attempt_start_usec) / 1e6 AS click_to_failure_sec,
  (a.committed_msec * 1e3 - a.attempt_start_usec) / 1e6 AS click_to_patch_committed_sec,
  (a.last_stop_msec * 1e3 - a.attempt_start_usec) / 1e6 AS click_to_result_sec,
  IFNULL(b.ids, []) AS contributing_bbucket_ids,
  a.earliest_equivalent_patchset,
  a.attempt_key
FROM attempt AS a
LEFT JOIN attempt_builds AS b
  ON a.attempt_start_usec = b.attempt_start_usec
  AND a.cq_name IS NOT DISTINCT FROM b.cq_name
  AND a.issue IS NOT DISTINCT FROM b.issue
  AND a.patchset IS NOT DISTINCT FROM b.patchset
LEFT JOIN failure AS f
  ON a.attempt_start_usec = f.attempt_start_usec
  AND a.cq_name IS NOT DISTINCT FROM f.cq_name
  AND a.issue IS NOT DISTINCT FROM f.issue
  AND a.patchset IS NOT DISTINCT FROM f.patchset
LEFT JOIN verdict AS v
  ON a.attempt_start_usec = v.attempt_start_usec
  AND a.cq_name IS NOT DISTINCT FROM v.cq_name
  AND a.issue IS NOT DISTINCT FROM v.issue
  AND a.patchset IS NOT DISTINCT FROM v.patchset
WHERE a.first_start_msec IS NOT NULL
  AND a.last_stop_msec IS NOT NULL
  AND NOT a.is_contradictory
