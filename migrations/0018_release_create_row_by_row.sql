-- Slots of a new release are looked at one by one, each by its key, whatever the planner thinks of them.
--
-- Planned while there were few slots, release_create walked over all of them by another index, and asked of each
-- whether it was among those wanted. To forbid reading the table in order (0012) was not enough. Ten thousand slots, just
-- made among a hundred thousand, took 6 s, twice what a gateway waits, every time anew until the planner had
-- counted again. A LATERAL with LIMIT 1 leaves it no choice of the order.

-- Makes a release of slots of one hospital that are in no other unclosed release.
CREATE OR REPLACE FUNCTION release_create(
    actor        bigint,
    the_hospital bigint,
    the_name     text,
    the_opens    timestamptz,
    the_closes   timestamptz,
    slots        bigint[],
    OUT outcome    text,
    OUT release_id bigint,
    OUT slot_id    bigint)
LANGUAGE plpgsql
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    PERFORM 1 FROM hospital h WHERE h.id = the_hospital FOR KEY SHARE;
    IF NOT FOUND THEN
        outcome := 'no_hospital';
        RETURN;
    END IF;
    PERFORM lock_slots(slots);
    SELECT wanted.id INTO slot_id
    FROM unnest(slots) AS wanted (id)
    LEFT JOIN LATERAL (SELECT x.session_id FROM slot x WHERE x.id = wanted.id LIMIT 1) s ON true
    LEFT JOIN LATERAL (
        SELECT x.hospital_id, x.withdrawn_at FROM session x WHERE x.id = s.session_id LIMIT 1) t ON true
    -- Every session has a hospital: without one there is no such slot.
    WHERE t.hospital_id IS DISTINCT FROM the_hospital
       OR t.withdrawn_at IS NOT NULL
    LIMIT 1;
    IF FOUND THEN
        outcome := 'no_slot';
        RETURN;
    END IF;
    SELECT wanted.id INTO slot_id
    FROM unnest(slots) AS wanted (id)
    CROSS JOIN LATERAL (SELECT x.release_id FROM slot x WHERE x.id = wanted.id LIMIT 1) s
    CROSS JOIN LATERAL (SELECT x.state FROM release x WHERE x.id = s.release_id LIMIT 1) r
    WHERE r.state <> 'closed'
    LIMIT 1;
    IF FOUND THEN
        outcome := 'slot_taken';
        RETURN;
    END IF;
    INSERT INTO release (hospital_id, name, opens_at, closes_at, created_by)
    VALUES (the_hospital, the_name, the_opens, the_closes, actor)
    RETURNING id INTO release_id;
    UPDATE slot s
    SET release_id = release_create.release_id,
        version = s.version + 1
    WHERE s.id = ANY (slots);
    INSERT INTO audit_log (account_id, action, subject, subject_id, detail)
    VALUES (actor, 'create', 'release', release_id, jsonb_build_object('slots', cardinality(slots)));
    outcome := 'done';
END
$$;
