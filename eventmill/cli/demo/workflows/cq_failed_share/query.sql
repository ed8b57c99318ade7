-- Planted: an hour without attempts divides by zero. SAFE_DIVIDE gives NULL instead.
SELECT
  @slot_start AS hour,
  COUNT(*) AS attempts,
  COUNTIF(failed) / COUNT(*) AS failed_share
FROM aggregated.cq_attempts
WHERE attempt_start_msec >= UNIX_MILLIS(@slot_start)
  AND attempt_start_msec < UNIX_MILLIS(@slot_end)
