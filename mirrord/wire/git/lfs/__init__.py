"""Git LFS: large files that a repository only points to; they travel beside Git (git-lfs, docs/spec.md, docs/api)."""
