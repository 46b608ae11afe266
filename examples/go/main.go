// SPDX-License-Identifier: Apache-2.0

// A client of mmfreed on containerd's ttrpc: the framing is theirs, the messages are the few fields it uses.
//
//	mmfree-go SOCKET PROMPT
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/gogo/protobuf/proto"
)

// proto/mmfree/v1/inference.proto has the whole of these messages.

type GenerateRequest struct {
	Model     string         `protobuf:"bytes,1,opt,name=model,proto3"`
	Text      []byte         `protobuf:"bytes,2,opt,name=text,proto3"`
	MaxTokens uint32         `protobuf:"varint,4,opt,name=max_tokens,proto3"`
	Sampling  *GreedyOptions `protobuf:"bytes,5,opt,name=sampling,proto3"`
}

// GreedyOptions is Sampling with the temperature sent even when it is zero, which is not the default.
type GreedyOptions struct {
	Temperature *float32 `protobuf:"fixed32,1,opt,name=temperature"`
}

type GenerateResponse struct {
	Text   []byte   `protobuf:"bytes,2,opt,name=text,proto3"`
	Tokens []uint32 `protobuf:"varint,3,rep,packed,name=tokens,proto3"`
}

type EmbedInput struct {
	Text []byte `protobuf:"bytes,1,opt,name=text,proto3"`
}

type EmbedRequest struct {
	Model     string        `protobuf:"bytes,1,opt,name=model,proto3"`
	Input     []*EmbedInput `protobuf:"bytes,2,rep,name=input,proto3"`
	Normalize bool          `protobuf:"varint,4,opt,name=normalize,proto3"`
}

type Embedding struct {
	Index      uint32    `protobuf:"varint,1,opt,name=index,proto3"`
	Dimensions uint32    `protobuf:"varint,2,opt,name=dimensions,proto3"`
	Values     []float32 `protobuf:"fixed32,3,rep,packed,name=values,proto3"`
}

type EmbedResponse struct {
	Embeddings []*Embedding `protobuf:"bytes,4,rep,name=embeddings,proto3"`
}

func (m *GenerateRequest) Reset()          { *m = GenerateRequest{} }
func (m *GenerateRequest) String() string  { return proto.CompactTextString(m) }
func (m *GenerateRequest) ProtoMessage()   {}
func (m *GreedyOptions) Reset()            { *m = GreedyOptions{} }
func (m *GreedyOptions) String() string    { return proto.CompactTextString(m) }
func (m *GreedyOptions) ProtoMessage()     {}
func (m *GenerateResponse) Reset()         { *m = GenerateResponse{} }
func (m *GenerateResponse) String() string { return proto.CompactTextString(m) }
func (m *GenerateResponse) ProtoMessage()  {}
func (m *EmbedInput) Reset()               { *m = EmbedInput{} }
func (m *EmbedInput) String() string       { return proto.CompactTextString(m) }
func (m *EmbedInput) ProtoMessage()        {}
func (m *EmbedRequest) Reset()             { *m = EmbedRequest{} }
func (m *EmbedRequest) String() string     { return proto.CompactTextString(m) }
func (m *EmbedRequest) ProtoMessage()      {}
func (m *Embedding) Reset()                { *m = Embedding{} }
func (m *Embedding) String() string        { return proto.CompactTextString(m) }
func (m *Embedding) ProtoMessage()         {}
func (m *EmbedResponse) Reset()            { *m = EmbedResponse{} }
func (m *EmbedResponse) String() string    { return proto.CompactTextString(m) }
func (m *EmbedResponse) ProtoMessage()     {}

func run(path, prompt string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	zero := float32(0)
	question := &GenerateRequest{Text: []byte(prompt), MaxTokens: 24, Sampling: &GreedyOptions{Temperature: &zero}}
	answer := &GenerateResponse{}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Generate", question, answer); err != nil {
		return err
	}
	fmt.Printf("generate:%s\n", answer.Text)

	vectors := &EmbedResponse{}
	texts := &EmbedRequest{Input: []*EmbedInput{{Text: []byte(prompt)}, {Text: []byte("another")}}, Normalize: true}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Embed", texts, vectors); err != nil {
		return err
	}
	for _, vector := range vectors.Embeddings {
		sum := 0.0
		for _, value := range vector.Values {
			sum += float64(value) * float64(value)
		}
		fmt.Printf("embed: input %d, %d dimensions, squared length %.4f\n", vector.Index, vector.Dimensions, sum)
	}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Nothing", question, answer); err == nil {
		return fmt.Errorf("an unknown method was answered")
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mmfree-go SOCKET PROMPT")
		os.Exit(64)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mmfree-go:", err)
		os.Exit(1)
	}
}
