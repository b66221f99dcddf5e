-- Releases move on with time without anybody's epoch, and each is preheated by itself.
--
-- All that were due shared one transaction, which locked the epochs of their partitions first and then took
-- some ten thousand slots a second: on a morning on which hundreds of hospitals open at one hour, no booking
-- there became durable meanwhile. And while one partition was being frozen, which takes as long, no release that
-- had a slot there moved on, nor any other that was due by then. A target needs no epoch: whoever grants
-- compares the slot's version, and an admin's change of a release never locked one.
--
-- Those that are over still end together: an epoch with places of one is frozen, for all who book in its partition,
-- and that shall be once.

-- Tells whether a release is to be preheated: it is planned, and opens within p_lead_ms.
CREATE FUNCTION release_is_due(
    p_state text, p_opens timestamptz, p_closes timestamptz, p_lead_ms bigint) RETURNS boolean
LANGUAGE sql
RETURN p_state = 'planned'
    AND p_closes > clock_timestamp()
    AND p_opens <= clock_timestamp() + p_lead_ms * interval '1 millisecond';
COMMENT ON FUNCTION release_is_due IS 'Whether a release is to be preheated now.';

-- Purpose: preheat a planned release that opens within p_lead_ms.
-- Post: its slots' target is the capacity. Returns whether it changed.
-- Locks: the release; its slots. Others are due as well: it does not wait long for either.
CREATE FUNCTION preheat_release(p_release bigint, p_lead_ms bigint) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '500ms'
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    -- An admin may have closed it since somebody saw that it is due.
    UPDATE release
    SET state = 'preheated', version = version + 1
    WHERE id = p_release AND release_is_due(state, opens_at, closes_at, p_lead_ms);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM lock_slots(ARRAY(SELECT id FROM slot WHERE release_id = p_release));
    UPDATE slot SET target = capacity, version = version + 1 WHERE release_id = p_release;
    RETURN true;
END $$;
COMMENT ON FUNCTION preheat_release IS 'Preheats a release that is due.';

-- Purpose: end releases past their time.
-- Post: their slots' target is 0, so that nothing of them is free again, whatever is cancelled. Returns
--       how many changed.
-- Locks: the releases by id; their slots. Whoever books one of them waits, so it does not wait long itself.
CREATE FUNCTION end_releases() RETURNS bigint
LANGUAGE plpgsql
SET lock_timeout = '500ms'
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    over bigint[];
BEGIN
    over := ARRAY(
        SELECT id FROM release
        WHERE state <> 'closed' AND closes_at <= clock_timestamp()
        ORDER BY id
        FOR NO KEY UPDATE);
    IF cardinality(over) = 0 THEN
        RETURN 0;
    END IF;
    UPDATE release SET state = 'closed', version = version + 1 WHERE id = ANY (over);
    PERFORM lock_slots(ARRAY(SELECT id FROM slot WHERE release_id = ANY (over)));
    UPDATE slot SET target = 0, version = version + 1 WHERE release_id = ANY (over);
    RETURN cardinality(over);
END $$;
COMMENT ON FUNCTION end_releases IS 'Ends releases past their time.';
COMMENT ON FUNCTION advance_releases IS 'Moves releases on with time: for workers of the version before.';
