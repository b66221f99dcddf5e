DROP TABLE IF EXISTS appointment, slot;
CREATE TABLE slot (id bigint PRIMARY KEY, capacity integer NOT NULL, booked integer NOT NULL);
CREATE TABLE appointment (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot_id bigint NOT NULL REFERENCES slot, patient_id bigint NOT NULL);
INSERT INTO slot VALUES (1, 2000000000, 0);
