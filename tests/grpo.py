"""A GRPO trainer with a tiny random model, whose rewards are shares of tokens."""

import torch

WORDS = 24


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{j}" for j in range(WORDS - 2))]
    raw = Tokenizer(models.WordLevel({word: j for j, word in enumerate(words)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>"
    )


def share(first, last):
    """The share of a completion's tokens that are w_first to w_last."""
    wanted = {f"w{j}" for j in range(first, last)}

    def reward(completions, **_):
        return [
            sum(word in wanted for word in text.split()) / max(len(text.split()), 1)
            for text in completions
        ]

    return reward


def trainer(folder, rewards, *, steps=60, seed=0, **options):
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "max_completion_length": 8,
        "learning_rate": 5e-3,
        "max_steps": steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "beta": 0.0,
        "seed": seed,
        "disable_tqdm": True,
        "multi_objective_aggregation": "normalize_then_sum",
        "lr_scheduler_type": "cosine",
    } | options
    data = Dataset.from_dict({"prompt": [f"w{j % 20} w{(3 * j) % 20}" for j in range(64)]})
    return GRPOTrainer(
        model=LlamaForCausalLM(config),
        reward_funcs=rewards,
        args=GRPOConfig(**settings),
        train_dataset=data,
        processing_class=tokenizer(),
    )
