-- Written by the code of schema 1, from before the migrations (pg_dump --inserts): every table has rows.
CREATE TABLE public.alerts (
    id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    metric character varying NOT NULL,
    value double precision,
    threshold double precision NOT NULL,
    "window" character varying NOT NULL,
    delivered boolean
);
CREATE SEQUENCE public.alerts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.alerts_id_seq OWNED BY public.alerts.id;
CREATE TABLE public.case_counts (
    model_version character varying NOT NULL,
    source character varying NOT NULL,
    label_method character varying NOT NULL,
    used boolean NOT NULL,
    cases integer NOT NULL
);
CREATE TABLE public.case_errors (
    case_id character varying(16) NOT NULL,
    error_type character varying NOT NULL,
    first_seen timestamp without time zone NOT NULL
);
CREATE TABLE public.cases (
    number bigint NOT NULL,
    id character varying(16) NOT NULL,
    audio_sha256 character varying(64) NOT NULL,
    audio_name character varying NOT NULL,
    model_version character varying NOT NULL,
    original_transcript character varying NOT NULL,
    error_score double precision,
    duration double precision,
    source character varying NOT NULL,
    metadata json NOT NULL,
    first_seen timestamp without time zone NOT NULL,
    last_seen timestamp without time zone NOT NULL,
    times_seen integer NOT NULL,
    label_method character varying,
    corrected_transcript character varying,
    dataset_version integer,
    words character varying NOT NULL
);
CREATE SEQUENCE public.cases_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.cases_number_seq OWNED BY public.cases.number;
CREATE TABLE public.corrections (
    id bigint NOT NULL,
    case_id character varying(16) NOT NULL,
    transcript character varying NOT NULL,
    method character varying NOT NULL,
    author character varying NOT NULL,
    at timestamp without time zone NOT NULL,
    metadata json NOT NULL
);
CREATE SEQUENCE public.corrections_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.corrections_id_seq OWNED BY public.corrections.id;
CREATE TABLE public.deployments (
    id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    model_name character varying NOT NULL,
    action character varying NOT NULL,
    state character varying NOT NULL,
    intent integer,
    version integer,
    former integer,
    who character varying NOT NULL,
    reason character varying NOT NULL,
    forced boolean NOT NULL,
    outcome character varying NOT NULL,
    digest character varying NOT NULL,
    details json NOT NULL
);
CREATE SEQUENCE public.deployments_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.deployments_id_seq OWNED BY public.deployments.id;
CREATE TABLE public.error_type_counts (
    error_type character varying NOT NULL,
    cases integer NOT NULL
);
CREATE TABLE public.inferences (
    id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    model_version character varying NOT NULL,
    audio_sha256 character varying(64) NOT NULL,
    duration double precision NOT NULL,
    latency double precision NOT NULL,
    confidence double precision,
    error_score double precision,
    is_error boolean,
    case_id character varying(16)
);
CREATE SEQUENCE public.inferences_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.inferences_id_seq OWNED BY public.inferences.id;
CREATE TABLE public.job_events (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    before character varying,
    after character varying NOT NULL,
    reason character varying NOT NULL
);
CREATE SEQUENCE public.job_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.job_events_id_seq OWNED BY public.job_events.id;
CREATE TABLE public.jobs (
    id bigint NOT NULL,
    state character varying NOT NULL,
    requested_at timestamp without time zone NOT NULL,
    reasons json NOT NULL,
    trigger json NOT NULL,
    dataset_version integer,
    run_id character varying,
    outcome character varying,
    gain double precision,
    details json NOT NULL
);
CREATE SEQUENCE public.jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.jobs_id_seq OWNED BY public.jobs.id;
CREATE TABLE public.regression_runs (
    id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    model_version character varying NOT NULL,
    model_digest character varying(64) NOT NULL,
    passed boolean NOT NULL,
    reason character varying NOT NULL,
    results json NOT NULL
);
CREATE SEQUENCE public.regression_runs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.regression_runs_id_seq OWNED BY public.regression_runs.id;
CREATE TABLE public.review_decisions (
    id bigint NOT NULL,
    case_id character varying(16) NOT NULL,
    reviewer character varying NOT NULL,
    at timestamp without time zone NOT NULL,
    action character varying(16) NOT NULL,
    role character varying(16) NOT NULL,
    transcript character varying,
    chosen character varying NOT NULL,
    seconds double precision,
    after integer NOT NULL,
    correction_id bigint,
    undoes bigint
);
CREATE SEQUENCE public.review_decisions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.review_decisions_id_seq OWNED BY public.review_decisions.id;
CREATE TABLE public.review_holds (
    case_id character varying(16) NOT NULL,
    reason character varying(16) NOT NULL,
    reviewer character varying NOT NULL,
    after integer NOT NULL
);
CREATE TABLE public.review_leases (
    case_id character varying(16) NOT NULL,
    holder character varying(64) NOT NULL,
    reviewer character varying NOT NULL,
    shown_at timestamp without time zone,
    expires_at timestamp without time zone NOT NULL
);
CREATE TABLE public.schema_version (
    version integer NOT NULL
);
CREATE SEQUENCE public.schema_version_version_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.schema_version_version_seq OWNED BY public.schema_version.version;
CREATE TABLE public.suggestions (
    id bigint NOT NULL,
    case_id character varying(16) NOT NULL,
    at timestamp without time zone NOT NULL,
    text character varying NOT NULL,
    model character varying NOT NULL,
    digest character varying NOT NULL,
    prompt_version character varying(64) NOT NULL,
    accepted boolean NOT NULL,
    guard character varying NOT NULL,
    reason character varying NOT NULL
);
CREATE SEQUENCE public.suggestions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.suggestions_id_seq OWNED BY public.suggestions.id;
CREATE TABLE public.test_spend (
    id bigint NOT NULL,
    at timestamp without time zone NOT NULL,
    test_set character varying(64) NOT NULL,
    family character varying(64) NOT NULL,
    members json NOT NULL,
    candidate character varying(64) NOT NULL,
    baseline character varying(64) NOT NULL,
    look integer NOT NULL,
    alpha double precision NOT NULL
);
CREATE SEQUENCE public.test_spend_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.test_spend_id_seq OWNED BY public.test_spend.id;
ALTER TABLE ONLY public.alerts ALTER COLUMN id SET DEFAULT nextval('public.alerts_id_seq'::regclass);
ALTER TABLE ONLY public.cases ALTER COLUMN number SET DEFAULT nextval('public.cases_number_seq'::regclass);
ALTER TABLE ONLY public.corrections ALTER COLUMN id SET DEFAULT nextval('public.corrections_id_seq'::regclass);
ALTER TABLE ONLY public.deployments ALTER COLUMN id SET DEFAULT nextval('public.deployments_id_seq'::regclass);
ALTER TABLE ONLY public.inferences ALTER COLUMN id SET DEFAULT nextval('public.inferences_id_seq'::regclass);
ALTER TABLE ONLY public.job_events ALTER COLUMN id SET DEFAULT nextval('public.job_events_id_seq'::regclass);
ALTER TABLE ONLY public.jobs ALTER COLUMN id SET DEFAULT nextval('public.jobs_id_seq'::regclass);
ALTER TABLE ONLY public.regression_runs ALTER COLUMN id SET DEFAULT nextval('public.regression_runs_id_seq'::regclass);
ALTER TABLE ONLY public.review_decisions ALTER COLUMN id SET DEFAULT nextval('public.review_decisions_id_seq'::regclass);
ALTER TABLE ONLY public.schema_version ALTER COLUMN version SET DEFAULT nextval('public.schema_version_version_seq'::regclass);
ALTER TABLE ONLY public.suggestions ALTER COLUMN id SET DEFAULT nextval('public.suggestions_id_seq'::regclass);
ALTER TABLE ONLY public.test_spend ALTER COLUMN id SET DEFAULT nextval('public.test_spend_id_seq'::regclass);
INSERT INTO public.alerts VALUES (1, '2026-11-01 08:30:15.123456', 'wer', 0.3, 0.2, '24 h', true);
INSERT INTO public.alerts VALUES (2, '2026-11-01 08:30:15.123456', 'drift', NULL, 0.5, 'window', NULL);
INSERT INTO public.case_counts VALUES ('v2', 'production', '', false, 2);
INSERT INTO public.case_counts VALUES ('v1', 'manual', '', false, 1);
INSERT INTO public.case_counts VALUES ('v1', 'manual', 'import', false, 1);
INSERT INTO public.case_counts VALUES ('v1', 'manual', 'manual', false, 0);
INSERT INTO public.case_counts VALUES ('v1', 'manual', 'manual', true, 1);
INSERT INTO public.case_counts VALUES ('v2', 'production', 'llm', false, 0);
INSERT INTO public.case_counts VALUES ('v2', 'production', 'llm', true, 1);
INSERT INTO public.case_errors VALUES ('dea887af4b813670', 'homophone', '2026-11-29 01:44:49.987559');
INSERT INTO public.case_errors VALUES ('503b30aabec264fc', 'homophone', '2026-11-29 01:44:50.009421');
INSERT INTO public.case_errors VALUES ('503b30aabec264fc', 'split', '2026-11-29 01:44:50.009421');
INSERT INTO public.case_errors VALUES ('3e4762036da8a56f', 'homophone', '2026-11-29 01:44:50.024492');
INSERT INTO public.case_errors VALUES ('0a6648dc2934df0d', 'homophone', '2026-11-29 01:44:50.037673');
INSERT INTO public.case_errors VALUES ('0a6648dc2934df0d', 'split', '2026-11-29 01:44:50.037673');
INSERT INTO public.case_errors VALUES ('0252c8f5add1c4cc', 'homophone', '2026-11-29 01:44:50.050357');
INSERT INTO public.case_errors VALUES ('f139077ef435cb5f', 'homophone', '2026-11-29 01:44:50.062125');
INSERT INTO public.case_errors VALUES ('f139077ef435cb5f', 'split', '2026-11-29 01:44:50.062125');
INSERT INTO public.cases VALUES (4, '0a6648dc2934df0d', 'fa7bc4d0abafbdd9106c52c2d74f8e8695869aae43da2cddb2439a1fccfe8b73', '3.wav', 'v2', 'il était une fois', 0.375, 0.1, 'production', '{"speaker": "s3", "note": "it''s"}', '2026-11-29 01:44:50.037673', '2026-11-29 01:44:50.037673', 1, NULL, NULL, NULL, ' il était une fois 3 wav');
INSERT INTO public.cases VALUES (5, '0252c8f5add1c4cc', '80b7ecfa801dd7e5782adc7759c315b9ad51aa1f5582a577af0bc32f83e6f220', '4.wav', 'v1', 'größe und maß', 0.5, 0.1, 'manual', '{"speaker": "s4", "note": "it''s"}', '2026-11-29 01:44:50.050357', '2026-11-29 01:44:50.050357', 1, NULL, NULL, NULL, ' grösse und mass 4 wav');
INSERT INTO public.cases VALUES (6, 'f139077ef435cb5f', 'a173719d4b83cb3ff1202a4d0dcced4db7d14c79bd51c6b33143508284d485d7', '5.wav', 'v2', 'hello', 0.625, 0.1, 'production', '{"speaker": "s5", "note": "it''s"}', '2026-11-29 01:44:50.062125', '2026-11-29 01:44:50.062125', 1, NULL, NULL, NULL, ' hello 5 wav');
INSERT INTO public.cases VALUES (3, '3e4762036da8a56f', 'dbde41efb7ace47cff414ff4fdd38dc25b546390d3022ca634385fab01d377a9', '2.wav', 'v1', 'çà et là, ''quoted'' text; with semicolon', 0.25, 0.1, 'manual', '{"speaker": "s2", "note": "it''s"}', '2026-11-29 01:44:50.024492', '2026-11-29 01:44:50.024492', 1, 'import', 'ça et là, “quoted” text; with semicolon', NULL, ' çà et là quoted text with semicolon 2 wav ça');
INSERT INTO public.cases VALUES (1, 'dea887af4b813670', 'bc9cbaf2ea206beeb5fef1715c486dba7726292b325e936e4da0140411212850', '0.wav', 'v1', 'der graf faehrt nach haus', NULL, 0.1, 'manual', '{"speaker": "s0", "note": "it''s"}', '2026-11-29 01:44:49.987559', '2026-11-29 01:44:49.987559', 1, 'manual', 'der Graf fährt nach Hause', 1, ' der graf faehrt nach haus 0 wav fährt hause');
INSERT INTO public.cases VALUES (2, '503b30aabec264fc', '133e3705ed087c9fe72fb65b209ddd95a8410e9cd659ce16604609c752c3fb5a', '1.wav', 'v2', 'what a lovely sight', 0.125, 0.1, 'production', '{"speaker": "s1", "note": "it''s"}', '2026-11-29 01:44:50.009421', '2026-11-29 01:44:50.009421', 1, 'llm', 'what a lovely night', 1, ' what a lovely sight 1 wav night');
INSERT INTO public.corrections VALUES (1, 'dea887af4b813670', 'der Graf fährt nach Haus', 'manual', 'anna', '2026-11-29 01:44:50.08222', '{"seconds": 3.5}');
INSERT INTO public.corrections VALUES (2, 'dea887af4b813670', 'der Graf fährt nach Hause', 'manual', 'ben', '2026-11-29 01:44:50.102738', '{}');
INSERT INTO public.corrections VALUES (3, '503b30aabec264fc', 'what a lovely night', 'llm', 'llama', '2026-11-29 01:44:50.117035', '{"model": "llama3"}');
INSERT INTO public.corrections VALUES (4, '3e4762036da8a56f', 'ça et là, “quoted” text; with semicolon', 'import', 'carla', '2026-11-29 01:44:50.131546', '{}');
INSERT INTO public.deployments VALUES (1, '2026-11-01 08:30:15.123456', 'mondegreen', 'deploy', 'intended', NULL, 2, 1, 'anna', 'verdict', false, 'pass', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', '{"before": {"champion": 1}, "after": {"champion": 2}}');
INSERT INTO public.deployments VALUES (2, '2026-11-01 08:30:15.123456', 'mondegreen', 'deploy', 'done', 1, 2, 1, 'anna', 'verdict', false, 'pass', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', '{}');
INSERT INTO public.error_type_counts VALUES ('homophone', 6);
INSERT INTO public.error_type_counts VALUES ('split', 3);
INSERT INTO public.inferences VALUES (1, '2026-11-01 08:30:15.123456', 'v1', 'audio_sha256', 0.5, 0.5, NULL, NULL, NULL, NULL);
INSERT INTO public.inferences VALUES (2, '2026-11-01 09:30:15.123456', 'v2', 'audio_sha256', 0.5, 0.5, NULL, NULL, NULL, NULL);
INSERT INTO public.inferences VALUES (3, '2026-11-01 10:30:15.123456', 'v1', 'audio_sha256', 0.5, 0.5, NULL, NULL, NULL, NULL);
INSERT INTO public.job_events VALUES (1, 1, '2026-11-01 08:30:15.123456', NULL, 'pending_approval', 'forced');
INSERT INTO public.job_events VALUES (2, 1, '2026-11-01 08:30:15.123456', 'pending_approval', 'promoted', 'passed');
INSERT INTO public.jobs VALUES (1, 'promoted', '2026-11-01 08:30:15.123456', '["forced", "60 corrected cases"]', '{"min_corrected_cases": [60, 50]}', 1, 'abc', 'pass', 0.0123, '{"who": "anna"}');
INSERT INTO public.regression_runs VALUES (1, '2026-11-01 08:30:15.123456', '2', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', true, 'every suite passed', '{"passed": true, "reason": "", "model": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "suites": []}');
INSERT INTO public.review_decisions VALUES (1, 'dea887af4b813670', 'anna', '2026-11-01 08:30:15.123456', 'text', 'single', 'der Graf fährt nach Haus', 'typed', 3.5, 0, 1, NULL);
INSERT INTO public.review_decisions VALUES (2, '0252c8f5add1c4cc', 'ben', '2026-11-01 08:30:15.123456', 'bad_audio', 'single', NULL, '', NULL, 0, NULL, NULL);
INSERT INTO public.review_decisions VALUES (3, 'dea887af4b813670', 'anna', '2026-11-01 08:30:15.123456', 'undo', '', NULL, '', NULL, 1, NULL, 1);
INSERT INTO public.review_holds VALUES ('0252c8f5add1c4cc', 'bad_audio', 'ben', 0);
INSERT INTO public.review_leases VALUES ('f139077ef435cb5f', 'h', 'anna', NULL, '2026-11-01 08:30:15.123456');
INSERT INTO public.schema_version VALUES (1);
INSERT INTO public.suggestions VALUES (1, '503b30aabec264fc', '2026-11-01 08:30:15.123456', 'what a lovely night', 'llama3', 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', true, '', '');
INSERT INTO public.suggestions VALUES (2, '0a6648dc2934df0d', '2026-11-01 08:30:15.123456', 'il était une foi', 'llama3', 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', false, 'edits', 'too much changed');
INSERT INTO public.test_spend VALUES (1, '2026-11-01 08:30:15.123456', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '["r1", "r2"]', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 1, 0.025);
INSERT INTO public.test_spend VALUES (2, '2026-11-01 08:30:15.123456', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '[]', 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 2, 0.0125);
SELECT pg_catalog.setval('public.alerts_id_seq', 2, true);
SELECT pg_catalog.setval('public.cases_number_seq', 6, true);
SELECT pg_catalog.setval('public.corrections_id_seq', 4, true);
SELECT pg_catalog.setval('public.deployments_id_seq', 2, true);
SELECT pg_catalog.setval('public.inferences_id_seq', 3, true);
SELECT pg_catalog.setval('public.job_events_id_seq', 2, true);
SELECT pg_catalog.setval('public.jobs_id_seq', 1, true);
SELECT pg_catalog.setval('public.regression_runs_id_seq', 1, true);
SELECT pg_catalog.setval('public.review_decisions_id_seq', 3, true);
SELECT pg_catalog.setval('public.schema_version_version_seq', 1, false);
SELECT pg_catalog.setval('public.suggestions_id_seq', 2, true);
SELECT pg_catalog.setval('public.test_spend_id_seq', 2, true);
ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.case_counts
    ADD CONSTRAINT case_counts_pkey PRIMARY KEY (model_version, source, label_method, used);
ALTER TABLE ONLY public.case_errors
    ADD CONSTRAINT case_errors_pkey PRIMARY KEY (case_id, error_type);
ALTER TABLE ONLY public.cases
    ADD CONSTRAINT cases_id_key UNIQUE (id);
ALTER TABLE ONLY public.cases
    ADD CONSTRAINT cases_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.corrections
    ADD CONSTRAINT corrections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_intent_key UNIQUE (intent);
ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.error_type_counts
    ADD CONSTRAINT error_type_counts_pkey PRIMARY KEY (error_type);
ALTER TABLE ONLY public.inferences
    ADD CONSTRAINT inferences_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.regression_runs
    ADD CONSTRAINT regression_runs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.review_decisions
    ADD CONSTRAINT review_decisions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.review_decisions
    ADD CONSTRAINT review_decisions_undoes_key UNIQUE (undoes);
ALTER TABLE ONLY public.review_holds
    ADD CONSTRAINT review_holds_pkey PRIMARY KEY (case_id);
ALTER TABLE ONLY public.review_leases
    ADD CONSTRAINT review_leases_pkey PRIMARY KEY (case_id);
ALTER TABLE ONLY public.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.suggestions
    ADD CONSTRAINT suggestions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.test_spend
    ADD CONSTRAINT test_spend_family_look_key UNIQUE (family, look);
ALTER TABLE ONLY public.test_spend
    ADD CONSTRAINT test_spend_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.test_spend
    ADD CONSTRAINT test_spend_test_set_candidate_key UNIQUE (test_set, candidate);
CREATE INDEX alerts_by_metric ON public.alerts USING btree (metric, at);
CREATE INDEX case_errors_by_type ON public.case_errors USING btree (error_type, first_seen, case_id);
CREATE INDEX case_words ON public.cases USING gin (array_to_tsvector(string_to_array(TRIM(BOTH FROM words), ' '::text)));
CREATE INDEX cases_by_dataset ON public.cases USING btree (dataset_version, first_seen, id, label_method);
CREATE INDEX cases_by_method ON public.cases USING btree (label_method, first_seen, id, dataset_version);
CREATE INDEX cases_by_model ON public.cases USING btree (model_version, first_seen, id, label_method, dataset_version);
CREATE INDEX cases_by_source ON public.cases USING btree (source, first_seen, id, label_method, dataset_version);
CREATE INDEX cases_by_time ON public.cases USING btree (first_seen, id);
CREATE INDEX cases_corrected ON public.cases USING btree (first_seen, id) WHERE (label_method IS NOT NULL);
CREATE INDEX cases_used ON public.cases USING btree (first_seen, id) WHERE (dataset_version IS NOT NULL);
CREATE INDEX deployments_by_model ON public.deployments USING btree (model_name, id);
CREATE INDEX inferences_by_model ON public.inferences USING btree (model_version, at);
CREATE INDEX ix_corrections_case_id ON public.corrections USING btree (case_id);
CREATE INDEX ix_inferences_at ON public.inferences USING btree (at);
CREATE INDEX ix_job_events_job_id ON public.job_events USING btree (job_id);
CREATE INDEX ix_jobs_state ON public.jobs USING btree (state);
CREATE INDEX ix_review_holds_reason ON public.review_holds USING btree (reason);
CREATE INDEX ix_review_leases_holder ON public.review_leases USING btree (holder);
CREATE INDEX regression_runs_by_model ON public.regression_runs USING btree (model_digest, id);
CREATE INDEX review_decisions_by_action ON public.review_decisions USING btree (action, correction_id);
CREATE INDEX review_decisions_by_case ON public.review_decisions USING btree (case_id, id);
CREATE INDEX review_decisions_by_reviewer ON public.review_decisions USING btree (reviewer, id);
CREATE INDEX suggestions_by_case ON public.suggestions USING btree (case_id, id);
ALTER TABLE ONLY public.case_errors
    ADD CONSTRAINT case_errors_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.corrections
    ADD CONSTRAINT corrections_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.inferences
    ADD CONSTRAINT inferences_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id);
ALTER TABLE ONLY public.review_decisions
    ADD CONSTRAINT review_decisions_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.review_decisions
    ADD CONSTRAINT review_decisions_correction_id_fkey FOREIGN KEY (correction_id) REFERENCES public.corrections(id);
ALTER TABLE ONLY public.review_decisions
    ADD CONSTRAINT review_decisions_undoes_fkey FOREIGN KEY (undoes) REFERENCES public.review_decisions(id);
ALTER TABLE ONLY public.review_holds
    ADD CONSTRAINT review_holds_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.review_leases
    ADD CONSTRAINT review_leases_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
ALTER TABLE ONLY public.suggestions
    ADD CONSTRAINT suggestions_case_id_fkey FOREIGN KEY (case_id) REFERENCES public.cases(id);
