-- Events that clients wrote: who they say they are, and their own number for it. Jobs of clients are rows of kind "client".
ALTER TABLE event ADD COLUMN origin TEXT;
ALTER TABLE event ADD COLUMN custom_id INTEGER;
CREATE UNIQUE INDEX event_of_client ON event (project_id, origin, custom_id) WHERE origin IS NOT NULL;
CREATE INDEX event_by_custom_id ON event (custom_id) WHERE custom_id IS NOT NULL;
CREATE INDEX job_of_client ON job (project_id) WHERE kind = 'client';
