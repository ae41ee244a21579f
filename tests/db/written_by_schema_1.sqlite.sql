-- Written by the code of schema 1, from before the migrations: every table has rows.
CREATE TABLE cases (
    number INTEGER NOT NULL,
    id VARCHAR(16) NOT NULL,
    audio_sha256 VARCHAR(64) NOT NULL,
    audio_name VARCHAR NOT NULL,
    model_version VARCHAR NOT NULL,
    original_transcript VARCHAR NOT NULL,
    error_score DOUBLE,
    duration DOUBLE,
    source VARCHAR NOT NULL,
    metadata JSON NOT NULL,
    first_seen DATETIME NOT NULL,
    last_seen DATETIME NOT NULL,
    times_seen INTEGER NOT NULL,
    label_method VARCHAR,
    corrected_transcript VARCHAR,
    dataset_version INTEGER,
    words VARCHAR NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (id)
);
CREATE TABLE case_counts (
    model_version VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    label_method VARCHAR NOT NULL,
    used BOOLEAN NOT NULL,
    cases INTEGER NOT NULL,
    PRIMARY KEY (model_version, source, label_method, used)
);
CREATE TABLE error_type_counts (
    error_type VARCHAR NOT NULL,
    cases INTEGER NOT NULL,
    PRIMARY KEY (error_type)
);
CREATE TABLE jobs (
    id INTEGER NOT NULL,
    state VARCHAR NOT NULL,
    requested_at DATETIME NOT NULL,
    reasons JSON NOT NULL,
    "trigger" JSON NOT NULL,
    dataset_version INTEGER,
    run_id VARCHAR,
    outcome VARCHAR,
    gain DOUBLE,
    details JSON NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE alerts (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    threshold DOUBLE NOT NULL,
    window VARCHAR NOT NULL,
    delivered BOOLEAN,
    PRIMARY KEY (id)
);
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE test_spend (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    test_set VARCHAR(64) NOT NULL,
    family VARCHAR(64) NOT NULL,
    members JSON NOT NULL,
    candidate VARCHAR(64) NOT NULL,
    baseline VARCHAR(64) NOT NULL,
    look INTEGER NOT NULL,
    alpha DOUBLE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (test_set, candidate),
    UNIQUE (family, look)
);
CREATE TABLE regression_runs (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    model_version VARCHAR NOT NULL,
    model_digest VARCHAR(64) NOT NULL,
    passed BOOLEAN NOT NULL,
    reason VARCHAR NOT NULL,
    results JSON NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE deployments (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    model_name VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    intent INTEGER,
    version INTEGER,
    former INTEGER,
    who VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    forced BOOLEAN NOT NULL,
    outcome VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    details JSON NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (intent)
);
CREATE TABLE case_errors (
    case_id VARCHAR(16) NOT NULL,
    error_type VARCHAR NOT NULL,
    first_seen DATETIME NOT NULL,
    PRIMARY KEY (case_id, error_type),
    FOREIGN KEY(case_id) REFERENCES cases (id)
)
 WITHOUT ROWID;
CREATE TABLE corrections (
    id INTEGER NOT NULL,
    case_id VARCHAR(16) NOT NULL,
    transcript VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    author VARCHAR NOT NULL,
    at DATETIME NOT NULL,
    metadata JSON NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(case_id) REFERENCES cases (id)
);
CREATE TABLE inferences (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    model_version VARCHAR NOT NULL,
    audio_sha256 VARCHAR(64) NOT NULL,
    duration DOUBLE NOT NULL,
    latency DOUBLE NOT NULL,
    confidence DOUBLE,
    error_score DOUBLE,
    is_error BOOLEAN,
    case_id VARCHAR(16),
    PRIMARY KEY (id),
    FOREIGN KEY(case_id) REFERENCES cases (id)
);
CREATE TABLE job_events (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    "before" VARCHAR,
    "after" VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE TABLE review_holds (
    case_id VARCHAR(16) NOT NULL,
    reason VARCHAR(16) NOT NULL,
    reviewer VARCHAR NOT NULL,
    "after" INTEGER NOT NULL,
    PRIMARY KEY (case_id),
    FOREIGN KEY(case_id) REFERENCES cases (id)
);
CREATE TABLE review_leases (
    case_id VARCHAR(16) NOT NULL,
    holder VARCHAR(64) NOT NULL,
    reviewer VARCHAR NOT NULL,
    shown_at DATETIME,
    expires_at DATETIME NOT NULL,
    PRIMARY KEY (case_id),
    FOREIGN KEY(case_id) REFERENCES cases (id)
);
CREATE TABLE suggestions (
    id INTEGER NOT NULL,
    case_id VARCHAR(16) NOT NULL,
    at DATETIME NOT NULL,
    text VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    prompt_version VARCHAR(64) NOT NULL,
    accepted BOOLEAN NOT NULL,
    guard VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(case_id) REFERENCES cases (id)
);
CREATE TABLE review_decisions (
    id INTEGER NOT NULL,
    case_id VARCHAR(16) NOT NULL,
    reviewer VARCHAR NOT NULL,
    at DATETIME NOT NULL,
    action VARCHAR(16) NOT NULL,
    role VARCHAR(16) NOT NULL,
    transcript VARCHAR,
    chosen VARCHAR NOT NULL,
    seconds DOUBLE,
    "after" INTEGER NOT NULL,
    correction_id INTEGER,
    undoes INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(case_id) REFERENCES cases (id),
    FOREIGN KEY(correction_id) REFERENCES corrections (id),
    UNIQUE (undoes),
    FOREIGN KEY(undoes) REFERENCES review_decisions (id)
);
CREATE INDEX cases_by_method ON cases (label_method, first_seen, id, dataset_version);
CREATE INDEX cases_corrected ON cases (first_seen, id) WHERE label_method IS NOT NULL;
CREATE INDEX cases_by_source ON cases (source, first_seen, id, label_method, dataset_version);
CREATE INDEX cases_used ON cases (first_seen, id) WHERE dataset_version IS NOT NULL;
CREATE INDEX cases_by_time ON cases (first_seen, id);
CREATE INDEX cases_by_dataset ON cases (dataset_version, first_seen, id, label_method);
CREATE INDEX cases_by_model ON cases (model_version, first_seen, id, label_method, dataset_version);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX alerts_by_metric ON alerts (metric, at);
CREATE INDEX regression_runs_by_model ON regression_runs (model_digest, id);
CREATE INDEX deployments_by_model ON deployments (model_name, id);
CREATE INDEX case_errors_by_type ON case_errors (error_type, first_seen, case_id);
CREATE INDEX ix_corrections_case_id ON corrections (case_id);
CREATE INDEX inferences_by_model ON inferences (model_version, at);
CREATE INDEX ix_inferences_at ON inferences (at);
CREATE INDEX ix_job_events_job_id ON job_events (job_id);
CREATE INDEX ix_review_holds_reason ON review_holds (reason);
CREATE INDEX ix_review_leases_holder ON review_leases (holder);
CREATE INDEX suggestions_by_case ON suggestions (case_id, id);
CREATE INDEX review_decisions_by_action ON review_decisions (action, correction_id);
CREATE INDEX review_decisions_by_case ON review_decisions (case_id, id);
CREATE INDEX review_decisions_by_reviewer ON review_decisions (reviewer, id);
CREATE VIRTUAL TABLE case_words USING fts5(words, content='cases', content_rowid='number', detail=none, columnsize=0, tokenize='unicode61 remove_diacritics 0');
CREATE TRIGGER case_words_add AFTER INSERT ON cases BEGIN INSERT INTO case_words(rowid, words) VALUES (new.number, new.words); END;
CREATE TRIGGER case_words_change AFTER UPDATE OF words ON cases BEGIN INSERT INTO case_words(case_words, rowid, words) VALUES ('delete', old.number, old.words); INSERT INTO case_words(rowid, words) VALUES (new.number, new.words); END;
INSERT INTO "schema_version" VALUES(1);
INSERT INTO "cases" VALUES(1,'dea887af4b813670','bc9cbaf2ea206beeb5fef1715c486dba7726292b325e936e4da0140411212850','0.wav','v1','der graf faehrt nach haus',NULL,0.1,'manual','{"speaker": "s0", "note": "it''s"}','2026-11-29 01:44:00.926981','2026-11-29 01:44:00.926981',1,'manual','der Graf fährt nach Hause',1,' der graf faehrt nach haus 0 wav fährt hause');
INSERT INTO "cases" VALUES(2,'503b30aabec264fc','133e3705ed087c9fe72fb65b209ddd95a8410e9cd659ce16604609c752c3fb5a','1.wav','v2','what a lovely sight',0.125,0.1,'production','{"speaker": "s1", "note": "it''s"}','2026-11-29 01:44:00.935277','2026-11-29 01:44:00.935277',1,'llm','what a lovely night',1,' what a lovely sight 1 wav night');
INSERT INTO "cases" VALUES(3,'3e4762036da8a56f','dbde41efb7ace47cff414ff4fdd38dc25b546390d3022ca634385fab01d377a9','2.wav','v1','çà et là, ''quoted'' text; with semicolon',0.25,0.1,'manual','{"speaker": "s2", "note": "it''s"}','2026-11-29 01:44:00.945638','2026-11-29 01:44:00.945638',1,'import','ça et là, “quoted” text; with semicolon',NULL,' çà et là quoted text with semicolon 2 wav ça');
INSERT INTO "cases" VALUES(4,'0a6648dc2934df0d','fa7bc4d0abafbdd9106c52c2d74f8e8695869aae43da2cddb2439a1fccfe8b73','3.wav','v2','il était une fois',0.375,0.1,'production','{"speaker": "s3", "note": "it''s"}','2026-11-29 01:44:00.953714','2026-11-29 01:44:00.953714',1,NULL,NULL,NULL,' il était une fois 3 wav');
INSERT INTO "cases" VALUES(5,'0252c8f5add1c4cc','80b7ecfa801dd7e5782adc7759c315b9ad51aa1f5582a577af0bc32f83e6f220','4.wav','v1','größe und maß',0.5,0.1,'manual','{"speaker": "s4", "note": "it''s"}','2026-11-29 01:44:00.962860','2026-11-29 01:44:00.962860',1,NULL,NULL,NULL,' grösse und mass 4 wav');
INSERT INTO "cases" VALUES(6,'f139077ef435cb5f','a173719d4b83cb3ff1202a4d0dcced4db7d14c79bd51c6b33143508284d485d7','5.wav','v2','hello',0.625,0.1,'production','{"speaker": "s5", "note": "it''s"}','2026-11-29 01:44:00.970266','2026-11-29 01:44:00.970266',1,NULL,NULL,NULL,' hello 5 wav');
INSERT INTO "corrections" VALUES(1,'dea887af4b813670','der Graf fährt nach Haus','manual','anna','2026-11-29 01:44:00.980647','{"seconds": 3.5}');
INSERT INTO "corrections" VALUES(2,'dea887af4b813670','der Graf fährt nach Hause','manual','ben','2026-11-29 01:44:00.992510','{}');
INSERT INTO "corrections" VALUES(3,'503b30aabec264fc','what a lovely night','llm','llama','2026-11-29 01:44:00.996663','{"model": "llama3"}');
INSERT INTO "corrections" VALUES(4,'3e4762036da8a56f','ça et là, “quoted” text; with semicolon','import','carla','2026-11-29 01:44:01.000653','{}');
INSERT INTO "case_counts" VALUES('v1','manual','',0,1);
INSERT INTO "case_counts" VALUES('v2','production','',0,2);
INSERT INTO "case_counts" VALUES('v1','manual','manual',0,0);
INSERT INTO "case_counts" VALUES('v2','production','llm',0,0);
INSERT INTO "case_counts" VALUES('v1','manual','import',0,1);
INSERT INTO "case_counts" VALUES('v1','manual','manual',1,1);
INSERT INTO "case_counts" VALUES('v2','production','llm',1,1);
INSERT INTO "error_type_counts" VALUES('homophone',6);
INSERT INTO "error_type_counts" VALUES('split',3);
INSERT INTO "jobs" VALUES(1,'promoted','2026-11-01 08:30:15.123456','["forced", "60 corrected cases"]','{"min_corrected_cases": [60, 50]}',1,'abc','pass',0.0123,'{"who": "anna"}');
INSERT INTO "alerts" VALUES(1,'2026-11-01 08:30:15.123456','wer',0.3,0.2,'24 h',1);
INSERT INTO "alerts" VALUES(2,'2026-11-01 08:30:15.123456','drift',NULL,0.5,'window',NULL);
INSERT INTO "test_spend" VALUES(1,'2026-11-01 08:30:15.123456','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','["r1", "r2"]','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',1,0.025);
INSERT INTO "test_spend" VALUES(2,'2026-11-01 08:30:15.123456','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','[]','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',2,0.0125);
INSERT INTO "regression_runs" VALUES(1,'2026-11-01 08:30:15.123456','2','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1,'every suite passed','{"passed": true, "reason": "", "model": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "suites": []}');
INSERT INTO "deployments" VALUES(1,'2026-11-01 08:30:15.123456','mondegreen','deploy','intended',NULL,2,1,'anna','verdict',0,'pass','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','{"before": {"champion": 1}, "after": {"champion": 2}}');
INSERT INTO "deployments" VALUES(2,'2026-11-01 08:30:15.123456','mondegreen','deploy','done',1,2,1,'anna','verdict',0,'pass','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','{}');
INSERT INTO "case_errors" VALUES('dea887af4b813670','homophone','2026-11-29 01:44:00.926981');
INSERT INTO "case_errors" VALUES('503b30aabec264fc','homophone','2026-11-29 01:44:00.935277');
INSERT INTO "case_errors" VALUES('3e4762036da8a56f','homophone','2026-11-29 01:44:00.945638');
INSERT INTO "case_errors" VALUES('0a6648dc2934df0d','homophone','2026-11-29 01:44:00.953714');
INSERT INTO "case_errors" VALUES('0252c8f5add1c4cc','homophone','2026-11-29 01:44:00.962860');
INSERT INTO "case_errors" VALUES('f139077ef435cb5f','homophone','2026-11-29 01:44:00.970266');
INSERT INTO "case_errors" VALUES('503b30aabec264fc','split','2026-11-29 01:44:00.935277');
INSERT INTO "case_errors" VALUES('0a6648dc2934df0d','split','2026-11-29 01:44:00.953714');
INSERT INTO "case_errors" VALUES('f139077ef435cb5f','split','2026-11-29 01:44:00.970266');
INSERT INTO "inferences" VALUES(1,'2026-11-01 08:30:15.123456','v1','audio_sha256',0.5,0.5,NULL,NULL,NULL,NULL);
INSERT INTO "inferences" VALUES(2,'2026-11-01 09:30:15.123456','v2','audio_sha256',0.5,0.5,NULL,NULL,NULL,NULL);
INSERT INTO "inferences" VALUES(3,'2026-11-01 10:30:15.123456','v1','audio_sha256',0.5,0.5,NULL,NULL,NULL,NULL);
INSERT INTO "job_events" VALUES(1,1,'2026-11-01 08:30:15.123456',NULL,'pending_approval','forced');
INSERT INTO "job_events" VALUES(2,1,'2026-11-01 08:30:15.123456','pending_approval','promoted','passed');
INSERT INTO "review_holds" VALUES('0252c8f5add1c4cc','bad_audio','ben',0);
INSERT INTO "review_leases" VALUES('f139077ef435cb5f','h','anna',NULL,'2026-11-01 08:30:15.123456');
INSERT INTO "suggestions" VALUES(1,'503b30aabec264fc','2026-11-01 08:30:15.123456','what a lovely night','llama3','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',1,'','');
INSERT INTO "suggestions" VALUES(2,'0a6648dc2934df0d','2026-11-01 08:30:15.123456','il était une foi','llama3','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',0,'edits','too much changed');
INSERT INTO "review_decisions" VALUES(1,'dea887af4b813670','anna','2026-11-01 08:30:15.123456','text','single','der Graf fährt nach Haus','typed',3.5,0,1,NULL);
INSERT INTO "review_decisions" VALUES(2,'0252c8f5add1c4cc','ben','2026-11-01 08:30:15.123456','bad_audio','single',NULL,'',NULL,0,NULL,NULL);
INSERT INTO "review_decisions" VALUES(3,'dea887af4b813670','anna','2026-11-01 08:30:15.123456','undo','',NULL,'',NULL,1,NULL,1);
