// In place of github.com/pierrec/lz4/v4, which is 42 MB, nearly all of it test data.
module github.com/pierrec/lz4/v4

go 1.26.0
