-- What the slot read and what it left out; kept with each run.
SELECT
  IFNULL(SUM(events), 0) AS events,
  IFNULL(SUM(events - events_with_time), 0) AS skipped_events_without_timestamp,
  -- These belong to no slot: they are counted in the one in which they came.
  (
    SELECT COUNT(*) FROM cq.raw_events
    WHERE attempt_start_usec IS NULL
      AND _ingested_at >= @slot_start AND _ingested_at < @slot_end
  ) AS skipped_events_without_attempt_start,
  COUNTIF(events_with_time > 0) AS attempts,
  COUNTIF(events_with_time > 0 AND (starts = 0 OR stops = 0)) AS dropped_attempts_incomplete,
  COUNTIF(starts > 0 AND stops > 0 AND dry AND earnest)
    AS dropped_attempts_contradictory
FROM (
  SELECT
    COUNT(*) AS events,
    COUNT(timestamp_millis) AS events_with_time,
    COUNT(IF(action = 'PATCH_START', timestamp_millis, NULL)) AS starts,
    COUNT(IF(action = 'PATCH_STOP', timestamp_millis, NULL)) AS stops,
    COUNTIF(dry_run AND timestamp_millis IS NOT NULL) > 0 AS dry,
    COUNTIF(NOT dry_run AND timestamp_millis IS NOT NULL) > 0 AS earnest
  FROM cq.raw_events
  WHERE attempt_start_usec >= UNIX_MICROS(@slot_start)
    AND attempt_start_usec < UNIX_MICROS(@slot_end)
  GROUP BY attempt_start_usec, cq_name, issue, patchset
)
