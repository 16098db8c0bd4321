"""Downloads: files of public data sets, checked and resumable."""
