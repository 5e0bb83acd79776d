// In place of github.com/hashicorp/go-getter, whose clients for clouds are 100 MB.
module github.com/hashicorp/go-getter

go 1.26.0
