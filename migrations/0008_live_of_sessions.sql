-- Purpose: the live bookings of sessions, one index range for each.
-- Where few sessions have most bookings, as right after a rush, the planner expects so many of any
-- session that it would rather read all bookings: once for every hundred sessions that are put on
-- offer or repaired, for the better part of a second each time.
CREATE FUNCTION live_of_sessions(p_sessions bigint[]) RETURNS SETOF booking
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT b.*
    FROM unnest(p_sessions) AS wanted (session_id)
    -- With an order and a limit it can't be turned into a join: booking_session_patient_key, each time.
    CROSS JOIN LATERAL (
        SELECT x.*
        FROM booking x
        WHERE x.session_id = wanted.session_id
          AND x.state = 'booked'
        ORDER BY x.patient_id
        LIMIT 1000000) b;
END $$;
COMMENT ON FUNCTION live_of_sessions IS 'The live bookings of these sessions, which are distinct.';
