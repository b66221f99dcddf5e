-- Tables of the ledger. PostgreSQL decides and remembers; everything else is derived from here.
-- Every constraint and index has a chosen name: the code matches on names, never on messages.

CREATE TABLE deployment (
    only_row   boolean  NOT NULL DEFAULT true,
    partitions smallint NOT NULL,
    CONSTRAINT deployment_pkey PRIMARY KEY (only_row),
    CONSTRAINT deployment_only_row_check CHECK (only_row),
    CONSTRAINT deployment_partitions_check CHECK (partitions BETWEEN 1 AND 64)
);
COMMENT ON TABLE deployment IS 'What is fixed for the life of this database.';
COMMENT ON COLUMN deployment.partitions IS 'Number of partitions: it decides where every session lies and never changes.';

-- Who acts -----------------------------------------------------------------------------------

CREATE TABLE account (
    id            bigint      GENERATED ALWAYS AS IDENTITY,
    login_hash    bytea       NOT NULL,
    login_sealed  bytea       NOT NULL,
    password_hash text        NOT NULL,
    role          text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_pkey PRIMARY KEY (id),
    CONSTRAINT account_login_key UNIQUE (login_hash),
    CONSTRAINT account_role_check CHECK (role IN ('patient', 'doctor', 'admin'))
);
COMMENT ON TABLE account IS 'Who logs in.';
COMMENT ON COLUMN account.login_hash IS 'Keyed hash of the login name, for look-up.';
COMMENT ON COLUMN account.login_sealed IS 'The login name, encrypted.';
COMMENT ON COLUMN account.password_hash IS 'Argon2id in PHC form.';

CREATE TABLE refresh_token (
    token_hash bytea       NOT NULL,
    family     uuid        NOT NULL,
    account_id bigint      NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT refresh_token_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_token_account_fkey FOREIGN KEY (account_id) REFERENCES account (id)
);
CREATE INDEX refresh_token_family_idx ON refresh_token (family);
CREATE INDEX refresh_token_account_idx ON refresh_token (account_id);
COMMENT ON TABLE refresh_token IS 'Refresh tokens, each good for one use; reuse of a used one ends its family.';
COMMENT ON COLUMN refresh_token.token_hash IS 'SHA-256 of the token. The token itself is not kept.';
COMMENT ON COLUMN refresh_token.family IS 'All tokens descended from one log-in.';
COMMENT ON COLUMN refresh_token.used_at IS 'When it was exchanged for its successor.';

CREATE TABLE patient (
    id                bigint      GENERATED ALWAYS AS IDENTITY,
    id_number_hash    bytea       NOT NULL,
    id_number_sealed  bytea       NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT patient_pkey PRIMARY KEY (id),
    CONSTRAINT patient_id_number_key UNIQUE (id_number_hash)
);
COMMENT ON TABLE patient IS 'One real person, whichever accounts act for them. Limits bind this row.';
COMMENT ON COLUMN patient.id_number_hash IS 'Keyed hash of the real-name id number, for look-up.';
COMMENT ON COLUMN patient.id_number_sealed IS 'The real-name id number, encrypted.';

CREATE TABLE account_patient (
    account_id  bigint      NOT NULL,
    patient_id  bigint      NOT NULL,
    name_sealed bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_patient_pkey PRIMARY KEY (account_id, patient_id),
    CONSTRAINT account_patient_account_fkey FOREIGN KEY (account_id) REFERENCES account (id),
    CONSTRAINT account_patient_patient_fkey FOREIGN KEY (patient_id) REFERENCES patient (id)
);
COMMENT ON TABLE account_patient IS 'Which patients an account acts for.';
COMMENT ON COLUMN account_patient.name_sealed IS 'The name this account gave, encrypted.';

-- What is on offer ---------------------------------------------------------------------------

CREATE TABLE hospital (
    id                       bigint      GENERATED ALWAYS AS IDENTITY,
    name                     text        NOT NULL,
    time_zone                text        NOT NULL,
    per_day_max              smallint             DEFAULT 2,
    per_department_day_max   smallint             DEFAULT 1,
    per_week_max             smallint             DEFAULT 3,
    created_at               timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT hospital_pkey PRIMARY KEY (id),
    CONSTRAINT hospital_name_key UNIQUE (name),
    CONSTRAINT hospital_limits_check CHECK (
        per_day_max > 0 AND per_department_day_max > 0 AND per_week_max > 0)
);
COMMENT ON COLUMN hospital.time_zone IS 'IANA name; dates and periods of its sessions are meant in it.';
COMMENT ON COLUMN hospital.per_day_max IS 'Live bookings of one patient on one date; NULL is no limit.';
COMMENT ON COLUMN hospital.per_department_day_max IS 'Live bookings of one patient in one department on one date; NULL is no limit.';
COMMENT ON COLUMN hospital.per_week_max IS 'Live bookings of one patient within six days of a date; NULL is no limit.';

CREATE TABLE department (
    id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    hospital_id bigint NOT NULL,
    name        text   NOT NULL,
    CONSTRAINT department_pkey PRIMARY KEY (id),
    CONSTRAINT department_hospital_fkey FOREIGN KEY (hospital_id) REFERENCES hospital (id),
    CONSTRAINT department_name_key UNIQUE (hospital_id, name)
);

CREATE TABLE doctor (
    id            bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    department_id bigint NOT NULL,
    account_id    bigint,
    name          text   NOT NULL,
    rank          text   NOT NULL DEFAULT 'attending',
    fee_fen       integer NOT NULL DEFAULT 0,
    CONSTRAINT doctor_pkey PRIMARY KEY (id),
    CONSTRAINT doctor_department_fkey FOREIGN KEY (department_id) REFERENCES department (id),
    CONSTRAINT doctor_account_fkey FOREIGN KEY (account_id) REFERENCES account (id),
    CONSTRAINT doctor_rank_check CHECK (rank IN ('resident', 'attending', 'associate_chief', 'chief')),
    CONSTRAINT doctor_fee_check CHECK (fee_fen >= 0)
);
CREATE INDEX doctor_department_idx ON doctor (department_id);
COMMENT ON COLUMN doctor.fee_fen IS 'Registration fee in fen (1/100 CNY).';

CREATE TABLE session (
    id            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    partition     smallint    NOT NULL,
    hospital_id   bigint      NOT NULL,
    department_id bigint      NOT NULL,
    doctor_id     bigint      NOT NULL,
    on_date       date        NOT NULL,
    period        text        NOT NULL,
    withdrawn_at  timestamptz,
    CONSTRAINT session_pkey PRIMARY KEY (id),
    CONSTRAINT session_hospital_fkey FOREIGN KEY (hospital_id) REFERENCES hospital (id),
    CONSTRAINT session_department_fkey FOREIGN KEY (department_id) REFERENCES department (id),
    CONSTRAINT session_doctor_fkey FOREIGN KEY (doctor_id) REFERENCES doctor (id),
    CONSTRAINT session_period_check CHECK (period IN ('morning', 'afternoon', 'evening')),
    CONSTRAINT session_doctor_date_period_key UNIQUE (doctor_id, on_date, period),
    CONSTRAINT session_partition_check CHECK (partition BETWEEN 0 AND 63),
    CONSTRAINT session_id_check CHECK (id BETWEEN 1 AND 36028797018963967)
);
CREATE INDEX session_date_idx ON session (on_date, hospital_id);
COMMENT ON TABLE session IS 'A clinic session: one doctor, one date, one period.';
COMMENT ON COLUMN session.partition IS 'hash(id) % deployment.partitions, computed by the program.';
COMMENT ON COLUMN session.on_date IS 'Date in the hospital''s time zone.';
COMMENT ON COLUMN session.withdrawn_at IS 'When the session was called off; NULL while it stands.';

CREATE TABLE release (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    hospital_id bigint     NOT NULL,
    name       text        NOT NULL,
    opens_at   timestamptz NOT NULL,
    closes_at  timestamptz NOT NULL,
    state      text        NOT NULL DEFAULT 'planned',
    paused     boolean     NOT NULL DEFAULT false,
    version    bigint      NOT NULL DEFAULT 1,
    created_by bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT release_pkey PRIMARY KEY (id),
    CONSTRAINT release_hospital_fkey FOREIGN KEY (hospital_id) REFERENCES hospital (id),
    CONSTRAINT release_created_by_fkey FOREIGN KEY (created_by) REFERENCES account (id),
    CONSTRAINT release_window_check CHECK (opens_at < closes_at),
    CONSTRAINT release_state_check CHECK (state IN ('planned', 'preheated', 'closed'))
);
CREATE INDEX release_unclosed_idx ON release (opens_at) WHERE state <> 'closed';
COMMENT ON TABLE release IS 'A batch of slots that goes on offer together.';
COMMENT ON COLUMN release.state IS 'planned: nothing set aside yet; preheated: its places are set aside for sale; closed: ended by an admin or its time.';
COMMENT ON COLUMN release.version IS 'Counts changes; a window with a lower version never replaces a later one.';

CREATE TABLE slot (
    id         bigint      NOT NULL,
    session_id bigint      NOT NULL,
    partition  smallint    NOT NULL,
    release_id bigint,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    capacity   integer     NOT NULL,
    target     integer     NOT NULL DEFAULT 0,
    booked     integer     NOT NULL DEFAULT 0,
    escrowed   integer     NOT NULL DEFAULT 0,
    issued     integer     NOT NULL DEFAULT 0,
    version    bigint      NOT NULL DEFAULT 1,
    CONSTRAINT slot_pkey PRIMARY KEY (id),
    CONSTRAINT slot_session_fkey FOREIGN KEY (session_id) REFERENCES session (id),
    CONSTRAINT slot_release_fkey FOREIGN KEY (release_id) REFERENCES release (id),
    CONSTRAINT slot_id_check CHECK (id >> 8 = session_id),
    CONSTRAINT slot_time_check CHECK (starts_at < ends_at),
    CONSTRAINT slot_capacity_check CHECK (capacity >= 0 AND target >= 0),
    CONSTRAINT slot_places_check CHECK (booked >= 0 AND escrowed >= 0 AND booked + escrowed <= capacity)
) WITH (fillfactor = 60);
CREATE INDEX slot_release_idx ON slot (release_id);
CREATE INDEX slot_on_offer_idx ON slot (partition) WHERE target > 0;
COMMENT ON TABLE slot IS 'A time band of a session. free = least(capacity, target) - booked - escrowed is derived, never stored.';
COMMENT ON COLUMN slot.id IS 'session_id * 256 + its place in the session, from 0.';
COMMENT ON COLUMN slot.capacity IS 'Places there are.';
COMMENT ON COLUMN slot.target IS 'Places that may be on offer or booked now: 0 until preheated, lower than capacity in a phased release.';
COMMENT ON COLUMN slot.booked IS 'Live appointments.';
COMMENT ON COLUMN slot.escrowed IS 'Places set aside for Redis to sell: the sum over unclosed epochs of granted - consumed.';
COMMENT ON COLUMN slot.issued IS 'Numbers given out, never taken back: a later patient never gets an earlier number.';
COMMENT ON COLUMN slot.version IS 'Counts changes of the counters, for optimistic locking.';

-- Epochs and their allotments ----------------------------------------------------------------

CREATE TABLE epoch (
    partition smallint    NOT NULL,
    e         bigint      NOT NULL,
    run_id    text        NOT NULL,
    replid    text        NOT NULL,
    nonce     text        NOT NULL,
    state     text        NOT NULL DEFAULT 'open',
    frozen    boolean     NOT NULL DEFAULT false,
    drained_at timestamptz,
    opened_at timestamptz NOT NULL DEFAULT now(),
    sealed_at timestamptz,
    closed_at timestamptz,
    CONSTRAINT epoch_pkey PRIMARY KEY (partition, e),
    CONSTRAINT epoch_e_check CHECK (e > 0),
    CONSTRAINT epoch_state_check CHECK (state IN ('open', 'sealed', 'closed'))
);
-- At most one open epoch per partition, whatever the code does.
CREATE UNIQUE INDEX epoch_open_key ON epoch (partition) WHERE state = 'open';
CREATE INDEX epoch_unclosed_idx ON epoch (partition, e) WHERE state <> 'closed';
COMMENT ON TABLE epoch IS 'One allotment of a partition''s quota to one life of Redis.';
COMMENT ON COLUMN epoch.run_id IS 'With replid: the Redis life the quota was given to.';
COMMENT ON COLUMN epoch.nonce IS 'Ties this row to the shell prepared in Redis.';
COMMENT ON COLUMN epoch.state IS 'open: Redis may sell; sealed: nothing may be answered "queued" under it any more; closed: its unused quota is back.';
COMMENT ON COLUMN epoch.frozen IS 'Ended on purpose, with the sold counts known: granted equals sold.';
COMMENT ON COLUMN epoch.drained_at IS 'When a consumer met its own echo of this epoch''s barrier: nothing of it is left in the queue.';

CREATE TABLE epoch_slot (
    partition smallint NOT NULL,
    e         bigint   NOT NULL,
    slot_id   bigint   NOT NULL,
    granted   integer  NOT NULL,
    consumed  integer  NOT NULL DEFAULT 0,
    CONSTRAINT epoch_slot_pkey PRIMARY KEY (partition, e, slot_id),
    CONSTRAINT epoch_slot_epoch_fkey FOREIGN KEY (partition, e) REFERENCES epoch (partition, e),
    CONSTRAINT epoch_slot_slot_fkey FOREIGN KEY (slot_id) REFERENCES slot (id),
    CONSTRAINT epoch_slot_consumed_check CHECK (consumed >= 0 AND consumed <= granted)
) WITH (fillfactor = 60);
COMMENT ON TABLE epoch_slot IS 'How many places of a slot an epoch was given and how many of them came back as bookings.';
COMMENT ON COLUMN epoch_slot.granted IS 'Cumulative; only grows while the epoch is open.';
COMMENT ON COLUMN epoch_slot.consumed IS 'Bookings of this epoch that have their final row, booked or rejected.';

-- Bookings -----------------------------------------------------------------------------------

CREATE TABLE booking (
    id            bigint      NOT NULL,
    partition     smallint    NOT NULL,
    e             bigint      NOT NULL,
    session_id    bigint      NOT NULL,
    slot_id       bigint      NOT NULL,
    patient_id    bigint      NOT NULL,
    account_id    bigint      NOT NULL,
    key_digest    bytea       NOT NULL,
    request_digest bytea      NOT NULL,
    state         text        NOT NULL,
    reason        text,
    superseded_by bigint,
    number        integer,
    version       bigint      NOT NULL DEFAULT 1,
    accepted_at   timestamptz NOT NULL,
    persisted_at  timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT booking_pkey PRIMARY KEY (id),
    CONSTRAINT booking_slot_fkey FOREIGN KEY (slot_id) REFERENCES slot (id),
    CONSTRAINT booking_state_check CHECK (state IN ('booked', 'cancelled', 'rejected')),
    CONSTRAINT booking_reason_check CHECK (
        (state = 'rejected') = (reason IS NOT NULL)
        AND reason IN ('already_booked', 'limit_reached', 'superseded', 'withdrawn', 'late', 'lapsed')),
    CONSTRAINT booking_number_check CHECK ((state = 'rejected') = (number IS NULL)),
    CONSTRAINT booking_session_check CHECK (slot_id >> 8 = session_id)
) WITH (fillfactor = 90);
-- Dead rows are outside both keys: a second try after a cancel or a rejection is a new booking.
CREATE UNIQUE INDEX booking_session_patient_key ON booking (session_id, patient_id)
    WHERE state = 'booked';
CREATE UNIQUE INDEX booking_patient_key_key ON booking (patient_id, key_digest)
    WHERE state <> 'rejected';
CREATE UNIQUE INDEX booking_slot_number_key ON booking (slot_id, number);
CREATE INDEX booking_account_idx ON booking (account_id, id);
CREATE INDEX booking_changed_idx ON booking (changed_at);
COMMENT ON TABLE booking IS 'The one final answer to every booking id: an appointment, live or cancelled, or a rejection.';
COMMENT ON COLUMN booking.id IS 'Snowflake minted by the gateway: redelivery of a message finds its own row.';
COMMENT ON COLUMN booking.e IS 'The epoch whose quota it took.';
COMMENT ON COLUMN booking.key_digest IS 'Digest of the idempotency key.';
COMMENT ON COLUMN booking.request_digest IS 'Digest of slot and patient.';
COMMENT ON COLUMN booking.superseded_by IS 'The booking the same key already stood for.';
COMMENT ON COLUMN booking.number IS 'The patient''s place within the slot, from 1, in the order the bookings became durable; never reused.';
COMMENT ON COLUMN booking.changed_at IS 'When the row last changed, for those who follow changes.';

CREATE VIEW appointment AS
    SELECT id, session_id, slot_id, patient_id, account_id, state, number, version, accepted_at, persisted_at, changed_at
    FROM booking
    WHERE state <> 'rejected';
CREATE VIEW rejection AS
    SELECT id, session_id, slot_id, patient_id, account_id, reason, superseded_by, accepted_at, persisted_at
    FROM booking
    WHERE state = 'rejected';

CREATE TABLE parked (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    partition  smallint    NOT NULL,
    e          bigint,
    booking_id bigint,
    slot_id    bigint,
    reason     text        NOT NULL,
    detail     text        NOT NULL DEFAULT '',
    kind       text        NOT NULL,
    body       bytea       NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_pkey PRIMARY KEY (id),
    CONSTRAINT parked_booking_key UNIQUE (booking_id)
);
CREATE INDEX parked_epoch_idx ON parked (partition, e);
COMMENT ON TABLE parked IS 'Messages set aside for a person. A row without an epoch blocks its partition''s closes.';
COMMENT ON COLUMN parked.kind IS 'booking: body is one booking as JSON and can be replayed; message: body is what could not be read.';

-- Running the system -------------------------------------------------------------------------

CREATE TABLE lease (
    kind       text        NOT NULL,
    number     smallint    NOT NULL,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT lease_pkey PRIMARY KEY (kind, number),
    CONSTRAINT lease_kind_check CHECK (kind IN ('worker_id', 'reconciler'))
);
COMMENT ON TABLE lease IS 'Numbers held by running programs: snowflake worker ids, and who reconciles.';
COMMENT ON COLUMN lease.expires_at IS 'End of the lease by the database''s clock. A worker id''s next holder mints only above it.';

CREATE TABLE audit_log (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT now(),
    account_id bigint,
    action     text        NOT NULL,
    subject    text        NOT NULL,
    subject_id bigint      NOT NULL,
    detail     jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_log_subject_idx ON audit_log (subject, subject_id, id);
COMMENT ON TABLE audit_log IS 'Who did what to which, and why. Only ever added to.';
COMMENT ON COLUMN audit_log.detail IS 'No personal data.';
