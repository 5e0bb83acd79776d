package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// DynamoDB is dynalite, an implementation of DynamoDB that runs anywhere.
type DynamoDB struct {
	URL string            // for BOUNCER_REPLAY_GUARD
	Env map[string]string // what AWS gives a program that may use the table

	t        T
	logs     *Logs
	port     string
	endpoint string
	proc     *Process
}

const tableName = "mcpbouncer"

// StartDynamoDB starts the service with one table, made as docs/replay.md says.
func StartDynamoDB(t T, logs *Logs) *DynamoDB {
	t.Helper()
	port := fmt.Sprint(FreePort(t))
	d := &DynamoDB{URL: "dynamodb://" + tableName, t: t, logs: logs, port: port, endpoint: "http://127.0.0.1:" + port}
	d.Env = map[string]string{
		"AWS_ENDPOINT_URL_DYNAMODB": d.endpoint, "AWS_REGION": "eu-central-1",
		"AWS_ACCESS_KEY_ID": "rig", "AWS_SECRET_ACCESS_KEY": "rig",
	}
	d.Start()
	return d
}

// Start starts the service with an empty table: dynalite keeps everything in memory.
func (d *DynamoDB) Start() {
	d.t.Helper()
	d.proc = Node(d.t, d.logs, "dynalite", "node_modules/dynalite/cli.js", "--host", "127.0.0.1", "--port", d.port, "--createTableMs", "0")
	d.proc.waitFor(d.t, d.logs, func() error {
		_, err := d.call("ListTables", map[string]any{})
		return err
	})
	if _, err := d.call("CreateTable", map[string]any{
		"TableName":            tableName,
		"AttributeDefinitions": []any{map[string]string{"AttributeName": "pk", "AttributeType": "S"}},
		"KeySchema":            []any{map[string]string{"AttributeName": "pk", "KeyType": "HASH"}},
		"BillingMode":          "PAY_PER_REQUEST",
	}); err != nil {
		d.t.Fatalf("rig: %v", err)
	}
	d.proc.waitFor(d.t, d.logs, func() error {
		answer, err := d.call("DescribeTable", map[string]any{"TableName": tableName})
		if err == nil && !strings.Contains(answer, `"ACTIVE"`) {
			err = fmt.Errorf("the table is not there yet: %s", answer)
		}
		return err
	})
}

// Kill ends the service at once. It forgets everything.
func (d *DynamoDB) Kill() { d.proc.Kill() }

// Age lets so much time pass for everything in the table: the service has no clock that could be
// set.
func (d *DynamoDB) Age(by time.Duration) {
	d.t.Helper()
	answer, err := d.call("Scan", map[string]any{"TableName": tableName})
	var all struct {
		Items []map[string]map[string]string
	}
	if err == nil {
		err = json.Unmarshal([]byte(answer), &all)
	}
	for _, item := range all.Items {
		for _, name := range []string{"exp", "till"} {
			if _, has := item[name]; !has || err != nil {
				continue
			}
			_, err = d.call("UpdateItem", map[string]any{
				"TableName": tableName, "Key": map[string]any{"pk": item["pk"]}, "UpdateExpression": "SET #t = #t - :by",
				"ExpressionAttributeNames":  map[string]string{"#t": name},
				"ExpressionAttributeValues": map[string]any{":by": map[string]string{"N": fmt.Sprint(int(by / time.Second))}},
			})
		}
	}
	if err != nil {
		d.t.Fatalf("rig: %v", err)
	}
}

// Stall keeps the service from answering anything until Wake. Its connections stay.
func (d *DynamoDB) Stall() { d.proc.stop() }

// Wake ends Stall.
func (d *DynamoDB) Wake() { d.proc.resume() }

// call sends one request of the DynamoDB API. dynalite looks for a signature, but cannot check it.
func (d *DynamoDB) call(operation string, input map[string]any) (string, error) {
	body, err := json.Marshal(input)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.endpoint, strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	req.Header.Set("X-Amz-Date", "20260101T000000Z")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=rig/20260101/eu-central-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", operation, resp.Status, answer)
	}
	return string(answer), err
}
