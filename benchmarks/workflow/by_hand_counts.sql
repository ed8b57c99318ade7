-- What is left out, as a script by hand counts it that has to tell: the same numbers.
SELECT
  sum(events) AS events,
  sum(events - timed) AS skipped_events_without_timestamp,
  count(*) FILTER (WHERE timed > 0) AS attempts,
  count(*) FILTER (WHERE timed > 0 AND (starts = 0 OR stops = 0)) AS dropped_attempts_incomplete,
  count(*) FILTER (WHERE starts > 0 AND stops > 0 AND dry AND NOT all_dry)
    AS dropped_attempts_contradictory
FROM (
  SELECT
    count(*) AS events,
    count(timestamp_millis) AS timed,
    count(timestamp_millis) FILTER (WHERE action = 'PATCH_START') AS starts,
    count(timestamp_millis) FILTER (WHERE action = 'PATCH_STOP') AS stops,
    bool_or(dry_run) FILTER (WHERE timestamp_millis IS NOT NULL) AS dry,
    bool_and(dry_run) FILTER (WHERE timestamp_millis IS NOT NULL) AS all_dry
  FROM read_parquet($files)
  WHERE attempt_start_usec >= $low AND attempt_start_usec < $high
  GROUP BY attempt_start_usec, cq_name, issue, patchset
)
