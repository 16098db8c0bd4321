"""What can go wrong, why, and what helps: the rows of `docs/troubleshooting.md`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ERRORS", "REASONS", "Advice"]


@dataclass(frozen=True)
class Advice:
    """One row. `shown` is part of the message (or the reason); `test` is `file::function`."""

    subject: str
    shown: str
    cause: str
    remedy: str
    test: str


ERRORS = (
    Advice(
        "ConfigError",
        "did you mean",
        "a setting's name or value is not known",
        "take the one that is proposed",
        "config/test_build_config.py::test_a_wrong_setting_names_its_path_and_the_remedy",
    ),
    Advice(
        "ConfigError",
        "is not a template",
        "`source.path` is no template over columns",
        "write `{page_dir}/{videoid}.mp4` with columns of the table",
        "catalog/test_catalog_errors.py::test_a_bad_path_template_is_a_configuration_error",
    ),
    Advice(
        "ConfigError",
        "looks at pictures only",
        "strategy `caption` with an embedder without text tower",
        "choose an open_clip model, as `ViT-B-32`",
        "embed/test_text_embedder.py::test_an_embedder_of_pictures_only_says_so",
    ),
    Advice(
        "SourceError",
        "no column",
        "the table has other columns than the kind of source needs",
        "correct `source.columns` or `source.path`; the message lists the columns found",
        "catalog/test_catalog_errors.py::test_an_unusable_source_is_one_line_with_the_rule",
    ),
    Advice(
        "SourceError",
        "absolute addresses",
        "the CSV names web addresses; nothing is downloaded",
        "fetch the videos with video2dataset, then build from its tars with `kind: webdataset`",
        "catalog/test_catalog_errors.py::test_an_unusable_source_is_one_line_with_the_rule",
    ),
    Advice(
        "SourceError",
        "none of the catalog's videos",
        "rows and files don't meet: wrong root or template",
        "compare the two keys in the message, correct `source.videos` or `source.path`",
        "catalog/test_folder_and_manifest_sources.py::test_a_manifest_that_is_none_is_one_line",
    ),
    Advice(
        "SourceError",
        "is compressed",
        "clips are read by range, which compressed tars don't allow",
        "unpack `.tar.gz` to `.tar`",
        "catalog/test_webdataset_source.py::test_tars_that_are_no_source_are_one_line",
    ),
    Advice(
        "SourceError",
        "samples repeat the name",
        "tars that each number their samples from 0",
        "write the tars anew with unique names, or give every json a `key`",
        "catalog/test_webdataset_source.py::test_tars_that_are_no_source_are_one_line",
    ),
    Advice(
        "SourceError",
        "changed while it was read",
        "somebody still writes the source",
        "run again when it is complete",
        "catalog/test_ready_made_samples.py::test_a_source_that_changes_while_it_is_read_writes_nothing",
    ),
    Advice(
        "StoreError",
        "no usable S3 credentials",
        "no keys in the environment",
        "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`",
        "storage/test_s3_faults.py::test_missing_credentials_are_said",
    ),
    Advice(
        "StoreError",
        "can't reach",
        "nobody listens at the endpoint",
        "check `AWS_ENDPOINT_URL` and the network",
        "storage/test_s3_faults.py::test_an_endpoint_nobody_listens_on_is_said",
    ),
    Advice(
        "StoreError",
        "shorter",
        "a file changed after it was listed",
        "restore it, or build into a new output",
        "storage/test_sources.py::test_a_source_reads_ranges_and_says_when_a_file_is_shorter",
    ),
    Advice(
        "DeviceError",
        "torch sees no GPU",
        "a GPU is asked for and none is there",
        "set `execution.gpus: 0`, or run where one is",
        "embed/test_embedders.py::test_a_gpu_that_is_not_there_is_an_error",
    ),
    Advice(
        "RejectLimitError",
        "max_fraction",
        "more clips are broken than `rejects.max_fraction` allows",
        "see the reasons in `rejects/`; correct the source, or raise the limit on purpose",
        "pipeline/test_build.py::test_too_many_rejects_stop_the_build",
    ),
    Advice(
        "VerificationError",
        "sha256",
        "a stored file is not what was committed",
        "delete the file the message names and build again: it is computed anew",
        "catalog/test_build_catalog.py::test_tampered_parts_are_noticed_when_read",
    ),
    Advice(
        "AccountingError",
        "must be distinct",
        "clips were lost or invented on the way: never your data's fault",
        "please report it with the message",
        "decode/test_decode_part.py::test_a_clip_named_twice_in_a_part_is_an_accounting_error",
    ),
    Advice(
        "CommitError",
        "delete that folder and run again",
        "an earlier build stopped half-way and the source changed since",
        "delete the folder the message names",
        "catalog/test_build_catalog.py::test_a_half_written_catalog_over_other_videos_says_what_to_delete",
    ),
    Advice(
        "ConflictError",
        "published with",
        "a recipe of this name is published with other settings",
        "choose another recipe name, or build with `--replace`",
        "pipeline/test_build.py::test_other_settings_under_a_published_name_stop_before_any_work",
    ),
    Advice(
        "IncompleteError",
        "source_changed",
        "some clips could not be read or decoded for reasons outside their bytes",
        "run the same command again; give clips up with `rejects.quarantine=[ids]`",
        "pipeline/test_build.py::test_a_source_that_changes_under_the_build_leaves_it_incomplete",
    ),
    Advice(
        "TrainingError",
        "supervised token",
        "a batch without anything to learn from",
        "look at the samples the message names",
        "train_engine/test_objective.py::test_a_batch_without_a_supervised_token_is_an_error",
    ),
    Advice(
        "DecodeError",
        "not_an_image",
        "one clip can't be decoded; becomes a counted reject, see below",
        "see the reason",
        "decode/test_clip_kinds.py::test_what_pillow_can_not_load_is_no_image",
    ),
)

REASONS = (
    Advice(
        "empty_caption",
        "empty_caption",
        "no caption: empty, blank, or no text file or row for it",
        "write one, or let `enrich` write it",
        "catalog/test_build_catalog.py::test_every_kind_of_broken_row_is_accounted_for",
    ),
    Advice(
        "missing",
        "missing",
        "the source names a file that is not there, or a key that leads out of its root",
        "fetch it again, or correct `source.path`",
        "catalog/test_build_catalog.py::test_every_kind_of_broken_row_is_accounted_for",
    ),
    Advice(
        "empty_file",
        "empty_file",
        "zero bytes: a download that failed",
        "fetch it again",
        "catalog/test_webdataset_source.py::test_a_broken_sample_is_a_counted_reject",
    ),
    Advice(
        "not_a_video",
        "not_a_video",
        "the bytes are of no container FFmpeg knows, often a web page",
        "fetch it again",
        "decode/test_bad_files.py::test_playlists_named_mp4_open_nothing_else",
    ),
    Advice(
        "no_video_stream",
        "no_video_stream",
        "sound only",
        "nothing to do",
        "decode/test_decode_part.py::test_clips_in_are_clips_out_filtered_or_rejected_with_a_reason",
    ),
    Advice(
        "truncated",
        "truncated",
        "a file or tar that breaks off",
        "fetch it again",
        "catalog/test_webdataset_source.py::test_a_damaged_tar_is_a_counted_reject_of_its_own",
    ),
    Advice(
        "no_frames",
        "no_frames",
        "a video stream that shows nothing",
        "nothing to do",
        "decode/test_bad_files.py::test_a_file_cut_anywhere_is_rejected_and_a_whole_or_padded_one_is_not",
    ),
    Advice(
        "corrupt",
        "corrupt",
        "the decoder reports damage in a picture it had to decode, or a tar is none",
        "fetch it again",
        "decode/test_bad_files.py::test_pictures_that_the_decoder_reports_as_damaged_are_rejected",
    ),
    Advice(
        "not_an_image",
        "not_an_image",
        "named as an image, and is none",
        "fetch it again, or correct `source.columns.media`",
        "decode/test_clip_kinds.py::test_what_pillow_can_not_load_is_no_image",
    ),
    Advice(
        "too_short",
        "too_short",
        "fewer frames than the recipe takes of a clip",
        "lower `frames_per_sample`, or set `short_clips: repeat-last`",
        "weave/test_plan.py::test_a_clip_that_is_too_short_is_rejected_with_what_to_change",
    ),
    Advice(
        "no_new_caption",
        "no_new_caption",
        "the file of captions does not name the clip",
        "complete the file, or set `captions.missing: original`",
        "pipeline/test_recipes.py::test_texts_are_known_by_content_and_reach_every_row",
    ),
    Advice(
        "clip_rejected",
        "clip_rejected",
        "a ready-made sample whose clip was refused",
        "see that clip's reason",
        "weave/test_recipe_shapes.py::test_given_samples_keep_their_turns_and_lose_none_silently",
    ),
    Advice(
        "bad_record",
        "bad_record",
        "a record or sample of another shape or encoding",
        "correct the record; `detail` says what is wrong",
        "catalog/test_webdataset_source.py::test_a_broken_sample_is_a_counted_reject",
    ),
    Advice(
        "bad_turns",
        "bad_turns",
        "turns that are not human and gpt by turns",
        "correct the record",
        "catalog/test_conversation_records.py::test_a_broken_record_is_refused_alone_with_its_reason",
    ),
    Advice(
        "timeout",
        "timeout",
        "decoding took longer than `execution.clip_timeout_seconds`",
        "run again; raise the limit, or give the clip up with `rejects.quarantine`",
        "decode/test_isolation.py::test_a_clip_that_kills_its_process_is_lost_alone",
    ),
    Advice(
        "killed",
        "killed",
        "decoding took more memory than `execution.clip_memory_bytes`, or crashed",
        "run again; raise the limit, or give the clip up with `rejects.quarantine`",
        "decode/test_isolation.py::test_a_clip_that_kills_its_process_is_lost_alone",
    ),
    Advice(
        "store_error",
        "store_error",
        "the store refused or broke off a read",
        "run again",
        "decode/test_decode_part.py::test_a_source_that_changed_or_can_not_be_read_is_a_circumstance",
    ),
    Advice(
        "source_changed",
        "source_changed",
        "a video has another size than when it was listed",
        "restore it, or build into a new output",
        "decode/test_decode_part.py::test_a_source_that_changed_or_can_not_be_read_is_a_circumstance",
    ),
)
