-- A doctor is in one place at a time: a session none of whose slots lies in another one's.

-- Locked in turn where a doctor's sessions are made; the right to lock a row is that to update a
-- column of it, so there is one which nothing is decided by.
ALTER TABLE doctor ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN doctor.created_at IS 'When the doctor was added.';

-- Makes a session and its slots. The id, and the partition that follows from it, are drawn before. A
-- session that was called off is in nobody's way, but its date and period stay taken.
-- One volatile plpgsql function called as one autocommitted statement, as those of 0003_admin.sql:
-- behind the lock the next statement sees what every rival made that went before.
CREATE FUNCTION session_create(
    actor         bigint,
    the_id        bigint,
    the_partition smallint,
    the_doctor    bigint,
    the_date      date,
    the_period    text,
    starts        timestamptz[],
    ends          timestamptz[],
    capacities    integer[])
RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM doctor d WHERE d.id = the_doctor FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'no_doctor';
    END IF;
    -- Slots lie on their session's date, which the caller has checked: no other date is looked at.
    IF EXISTS (
        SELECT
        FROM session other
        JOIN slot s ON s.session_id = other.id
        JOIN unnest(starts, ends) AS band (starts_at, ends_at)
          ON s.starts_at < band.ends_at
         AND band.starts_at < s.ends_at
        WHERE other.doctor_id = the_doctor
          AND other.on_date = the_date
          AND other.period <> the_period
          AND other.withdrawn_at IS NULL
    ) THEN
        RETURN 'overlaps';
    END IF;
    INSERT INTO session (id, partition, hospital_id, department_id, doctor_id, on_date, period)
    OVERRIDING SYSTEM VALUE
    SELECT the_id, the_partition, department.hospital_id, department.id, the_doctor, the_date, the_period
    FROM doctor d
    JOIN department ON department.id = d.department_id
    WHERE d.id = the_doctor
    ON CONFLICT ON CONSTRAINT session_doctor_date_period_key DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'already_there';
    END IF;
    INSERT INTO slot (id, session_id, partition, starts_at, ends_at, capacity)
    SELECT (the_id << 8) | (band.place - 1), the_id, the_partition,
           band.starts_at, band.ends_at, band.capacity
    FROM unnest(starts, ends, capacities) WITH ORDINALITY
        AS band (starts_at, ends_at, capacity, place);
    INSERT INTO audit_log (account_id, action, subject, subject_id, detail)
    VALUES (actor, 'create', 'session', the_id, jsonb_build_object('slots', cardinality(capacities)));
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION session_create IS 'done | no_doctor | already_there (that date and period) | overlaps.';
