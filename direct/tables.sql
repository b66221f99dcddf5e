CREATE TABLE slot (
    id       bigint  PRIMARY KEY,
    capacity integer NOT NULL,
    booked   integer NOT NULL DEFAULT 0,
    version  bigint  NOT NULL DEFAULT 1
) WITH (fillfactor = 60);
CREATE TABLE appointment (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot_id    bigint NOT NULL REFERENCES slot,
    patient_id bigint NOT NULL
);
