"""Public data sets fetched into a folder: resumable, checked, unpacked with care.

    table     the files VideoWeave and Prismatic train on, by data set id: data, no code
    transfer  one URL -> one file: ranges, back-off, Retry-After, size and sha256
    archives  zip and tar -> files, guarded against paths that lead out and against bombs
    to_jpeg   GIF and PNG beside their JPEG, where records name `.jpg` only
    dataset   all files of one id, and `downloads.json`, which says what is there

Every file appears under its name only when it is whole. Nothing here is imported by a build.
"""

from weave_data.download.archives import unpack
from weave_data.download.dataset import DownloadedFile, download_dataset
from weave_data.download.table import DATASETS, RemoteFile, find_dataset
from weave_data.download.to_jpeg import convert_to_jpeg
from weave_data.download.transfer import RetryPolicy, fetch_file

__all__ = [
    "DATASETS",
    "DownloadedFile",
    "RemoteFile",
    "RetryPolicy",
    "convert_to_jpeg",
    "download_dataset",
    "fetch_file",
    "find_dataset",
    "unpack",
]
