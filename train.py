"""Pretraining: text becomes a language model (jaxgpt/pretraining.py).

python train.py --config configs/base.py
python train.py --config configs/base.py --run.init-from runs/base --data.corpus more.txt --run.name more
"""

from jaxgpt.entry import main
from jaxgpt.pretraining import pretrain

if __name__ == "__main__":
    main(pretrain)
