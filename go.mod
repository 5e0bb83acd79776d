module github.com/mcpbouncer/mcpbouncer

go 1.26.0
