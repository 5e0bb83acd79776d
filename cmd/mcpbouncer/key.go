//go:build !onlyserve

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
)

// key mints bearer keys: for machines that can send a fixed header and nothing else.
func key(args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "create" {
		return errors.New("key: the command is `key create`; --help lists its flags")
	}
	if err := keyCreate(args[1:], out); err != nil {
		return fmt.Errorf("key create: %w", err)
	}
	return nil
}

func keyCreate(args []string, out io.Writer) error {
	flags := newTenantFlags("key create")
	var machine issuer.Machine
	flags.StringVar(&machine.Subject, "subject", "", "`sub` of whoever uses the key; choose one that the provider gives to nobody")
	flags.StringVar(&machine.Scope, "scope", "", "`scopes` of the key, separated by blanks")
	expires := flags.String("expires", "", "`life` of the key, from now: 90d or 12h, at most ten years")
	help, err := flags.parse(args, out, "Prints a bearer key for one server. Nothing is stored: it follows from BOUNCER_ENCRYPTION_KEY,\nand holds until it expires or one of the labels below changes. Note key_id: it ends the key before.")
	if help || err != nil {
		return err
	}
	if err := flags.demand("subject", "expires"); err != nil {
		return err
	}
	var life days
	if err := life.Decode(strings.TrimSuffix(*expires, "d")); err != nil {
		return fmt.Errorf("--expires must be %w", err)
	}
	tenant, err := flags.id()
	if err != nil {
		return err
	}
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	info, err := issuer.CreateKey(e.ring, tenant, machine, time.Duration(life), time.Now())
	if err != nil {
		return err
	}
	return writeIndented(out, info)
}
