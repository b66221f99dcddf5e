-- Slots of a release are looked up by their keys, one after the other. Where sessions and slots were few when
-- the planner last counted them, it would rather read all sessions for each slot: a release of a hundred
-- thousand slots then met its timeout, each time anew.
ALTER FUNCTION release_create(bigint, bigint, text, timestamptz, timestamptz, bigint[])
    SET enable_seqscan = off;
ALTER FUNCTION release_create(bigint, bigint, text, timestamptz, timestamptz, bigint[])
    SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION release_change(bigint, bigint, text) SET enable_seqscan = off;
ALTER FUNCTION release_change(bigint, bigint, text) SET plan_cache_mode = force_generic_plan;
