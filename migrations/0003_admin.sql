-- Steps of accounts, patients and administration that take more than one look.
--
-- Each is one volatile plpgsql function called as one autocommitted statement. Every statement
-- inside sees a fresh snapshot, so whoever locks the row that guards the rest first (the account,
-- the release) judges what is true after every rival that went before it.
-- Expected answers come back as words; nothing here raises on what a client may ask for.
-- Lock order: as in 0002_steps.sql; an account before its patients.

-- Exchanges a refresh token for its successor, once. A used token that comes again was stolen or
-- sent twice: either way its whole family ends, the successor included.
CREATE FUNCTION refresh_rotate(
    the_hash   bytea,
    next_hash  bytea,
    ttl_s      integer,
    OUT outcome    text,
    OUT account_id bigint)
LANGUAGE plpgsql AS $$
DECLARE
    token refresh_token%ROWTYPE;
BEGIN
    SELECT t.account_id INTO account_id FROM refresh_token t WHERE t.token_hash = the_hash;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    -- One account, one rotation at a time: without this a successor inserted by a rival would
    -- escape the revocation below.
    PERFORM 1 FROM account a WHERE a.id = refresh_rotate.account_id FOR NO KEY UPDATE;
    SELECT * INTO token FROM refresh_token t WHERE t.token_hash = the_hash;
    IF NOT FOUND OR token.revoked_at IS NOT NULL OR token.expires_at <= now() THEN
        outcome := 'unknown';
    ELSIF token.used_at IS NOT NULL THEN
        UPDATE refresh_token t
        SET revoked_at = now()
        WHERE t.family = token.family
          AND t.revoked_at IS NULL;
        outcome := 'reused';
    ELSE
        UPDATE refresh_token t
        SET used_at = now()
        WHERE t.token_hash = the_hash;
        INSERT INTO refresh_token (token_hash, family, account_id, expires_at)
        VALUES (next_hash, token.family, token.account_id, now() + make_interval(secs => ttl_s));
        outcome := 'rotated';
    END IF;
END
$$;
COMMENT ON FUNCTION refresh_rotate IS 'rotated | reused (the family ended) | unknown (no such token, expired or revoked).';

-- Ends the family of a refresh token, whatever became of the token itself.
CREATE FUNCTION refresh_revoke(the_hash bytea)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    the_account bigint;
BEGIN
    SELECT t.account_id INTO the_account FROM refresh_token t WHERE t.token_hash = the_hash;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- The same lock as a rotation takes, so that no successor slips through.
    PERFORM 1 FROM account a WHERE a.id = the_account FOR NO KEY UPDATE;
    UPDATE refresh_token t
    SET revoked_at = now()
    WHERE t.family = (SELECT own.family FROM refresh_token own WHERE own.token_hash = the_hash)
      AND t.revoked_at IS NULL;
    RETURN true;
END
$$;
COMMENT ON FUNCTION refresh_revoke IS 'False if there is no such token.';

-- Lets an account act for a person, who is found by the keyed hash or made.
CREATE FUNCTION patient_add(
    the_account bigint,
    the_hash    bytea,
    the_sealed  bytea,
    the_name    bytea,
    patients_max integer,
    OUT outcome    text,
    OUT patient_id bigint)
LANGUAGE plpgsql AS $$
BEGIN
    -- The account's row guards its count of patients.
    PERFORM 1 FROM account a WHERE a.id = the_account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'no_account';
        RETURN;
    END IF;
    UPDATE account_patient ap
    SET name_sealed = the_name
    FROM patient p
    WHERE p.id_number_hash = the_hash
      AND ap.account_id = the_account
      AND ap.patient_id = p.id
    RETURNING p.id INTO patient_id;
    IF FOUND THEN
        outcome := 'done';
        RETURN;
    END IF;
    IF (SELECT count(*) FROM account_patient ap WHERE ap.account_id = the_account) >= patients_max THEN
        outcome := 'limit_reached';
        RETURN;
    END IF;
    -- Another account may add the same person right now: wait for it, then read what it made.
    INSERT INTO patient (id_number_hash, id_number_sealed)
    VALUES (the_hash, the_sealed)
    ON CONFLICT ON CONSTRAINT patient_id_number_key DO NOTHING;
    SELECT p.id INTO patient_id FROM patient p WHERE p.id_number_hash = the_hash;
    INSERT INTO account_patient (account_id, patient_id, name_sealed)
    VALUES (the_account, patient_add.patient_id, the_name);
    outcome := 'done';
END
$$;
COMMENT ON FUNCTION patient_add IS 'done | limit_reached | no_account. Adding the same person again renames them.';

-- Makes a release of slots of one hospital that are in no other unclosed release.
CREATE FUNCTION release_create(
    actor        bigint,
    the_hospital bigint,
    the_name     text,
    the_opens    timestamptz,
    the_closes   timestamptz,
    slots        bigint[],
    OUT outcome    text,
    OUT release_id bigint,
    OUT slot_id    bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM hospital h WHERE h.id = the_hospital FOR KEY SHARE;
    IF NOT FOUND THEN
        outcome := 'no_hospital';
        RETURN;
    END IF;
    PERFORM lock_slots(slots);
    SELECT wanted.id INTO slot_id
    FROM unnest(slots) AS wanted (id)
    LEFT JOIN slot s ON s.id = wanted.id
    LEFT JOIN session ON session.id = s.session_id
    WHERE session.id IS NULL
       OR session.hospital_id <> the_hospital
       OR session.withdrawn_at IS NOT NULL
    LIMIT 1;
    IF FOUND THEN
        outcome := 'no_slot';
        RETURN;
    END IF;
    SELECT s.id INTO slot_id
    FROM slot s
    JOIN release r ON r.id = s.release_id
    WHERE s.id = ANY (slots)
      AND r.state <> 'closed'
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
COMMENT ON FUNCTION release_create IS 'done | no_hospital | no_slot and slot_taken (which one, in slot_id).';

-- Changes a release's state. Asking again for what already holds changes nothing and is done.
CREATE FUNCTION release_change(
    actor       bigint,
    the_release bigint,
    verb        text,
    OUT outcome text)
LANGUAGE plpgsql AS $$
DECLARE
    r release%ROWTYPE;
BEGIN
    -- First the release, then its slots by id: whoever comes second judges the new state.
    SELECT * INTO r FROM release WHERE id = the_release FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'no_release';
        RETURN;
    END IF;
    IF (CASE verb
        WHEN 'preheat' THEN r.state = 'preheated'
        WHEN 'pause' THEN r.paused AND r.state <> 'closed'
        WHEN 'resume' THEN NOT r.paused AND r.state <> 'closed'
        WHEN 'close' THEN r.state = 'closed'
    END) THEN
        outcome := 'done';
        RETURN;
    END IF;
    IF r.state = 'closed' OR (verb = 'preheat' AND r.closes_at <= now()) THEN
        outcome := 'wrong_state';
        RETURN;
    END IF;
    UPDATE release
    SET state = CASE verb WHEN 'preheat' THEN 'preheated' WHEN 'close' THEN 'closed' ELSE state END,
        paused = CASE verb WHEN 'pause' THEN true WHEN 'resume' THEN false ELSE paused END,
        version = version + 1
    WHERE id = the_release;
    IF verb IN ('preheat', 'close') THEN
        PERFORM lock_slots(ARRAY(SELECT s.id FROM slot s WHERE s.release_id = the_release));
        UPDATE slot s
        SET target = CASE verb WHEN 'preheat' THEN s.capacity ELSE 0 END,
            version = s.version + 1
        WHERE s.release_id = the_release;
    END IF;
    INSERT INTO audit_log (account_id, action, subject, subject_id)
    VALUES (actor, verb, 'release', the_release);
    outcome := 'done';
END
$$;
COMMENT ON FUNCTION release_change IS 'done | no_release | wrong_state. Verbs: preheat, pause, resume, close.';

-- The public list of a department's sessions.
CREATE INDEX session_department_idx ON session (department_id, on_date, id);
